"""What the model computes: its logits, and those of MTP, against transformers' for the same checkpoint."""

from __future__ import annotations

import torch
from safetensors.torch import load_file, save_file

from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.forward.agreement import Computed, differences, disagreements
from mtp_regression.forward.batches import Batch
from mtp_regression.stages.case import Outcome
from mtp_regression.stages.loaded import Loaded

_LOGITS, _BATCH, _DECIDED = "logits.", "batch.", "decided"


def forward(loaded: Loaded) -> Outcome:
    """Compare logits, on every rank that has them, with a reference that the first rank computes."""
    with loaded.step("reference"):
        batch, reference = _reference(loaded)
    with loaded.unchanged("the forward pass") as changed, loaded.step("logits"):
        found = loaded.bridge.logits(batch)
    measured = differences(reference, found) if found else {}
    findings = [*disagreements(reference, measured)] if found else []
    if not any(loaded.gather(bool(found))):
        findings = [Finding("logits: main", Verdict.MISSING, "no rank has any")]
    return Outcome(
        compared=reference.positions * len(measured), findings=findings + changed, agreement=measured
    )


def _reference(loaded: Loaded) -> tuple[Batch, Computed]:
    """Have the first rank draw a batch and compute the reference, and read both."""
    path = loaded.folder / "reference.safetensors"
    if loaded.world.rank == 0:
        from mtp_regression.forward.reference import reference_of  # seconds, for the other stages

        batch, computed = reference_of(loaded.case.checkpoint, loaded.config, loaded.source)
        tensors = {_BATCH + name: tensor for name, tensor in batch.items()}
        tensors |= {_LOGITS + name: tensor for name, tensor in computed.logits.items()}
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()} | {_DECIDED: computed.decided},
            path,
        )
    loaded.barrier()
    tensors = load_file(path)
    return _below(_BATCH, tensors), Computed(_below(_LOGITS, tensors), tensors[_DECIDED])


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    named = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return dict(sorted(named.items()))
