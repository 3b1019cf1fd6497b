"""Makes a tiny checkpoint whose decoder and MTP head predict a language, with transformers' own classes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch.nn import functional

from mtp_fixtures import CheckpointSpec, preset
from mtp_regression.comparison.other_checkpoint import write_checkpoint
from mtp_regression.comparison.tensors import RawTensor, read_folder
from mtp_regression.forward.reference import Reference
from mtp_regression.maintenance.demo.language import Language

PRESET = "qwen3.6-35b-a3b"
ROWS, LENGTH = 16, 32
"""Of a batch, in the fit and in the training that follows it."""
_RATE, _WARM = 2e-3, 10
_AS_IT_IS = ("visual.", "linear_attn.norm.")
"""What is not fitted: the vision tower, and norms that Megatron keeps as w - 1, which BF16 would round."""


def losses(logits: Mapping[str, torch.Tensor], tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """Compute the mean cross-entropy of each head, in nats.

    Args:
        logits: By name: "main" for the next token, "mtp.{i}" for the one i + 1 after that, each
            [rows, length, vocabulary].
        tokens: Int64 [rows, length].
    """
    found = {}
    for ahead, name in enumerate(sorted(logits), start=1):  # "main" comes before "mtp.0"
        predicted = logits[name][:, :-ahead].flatten(0, 1)
        found[name] = functional.cross_entropy(predicted, tokens[:, ahead:].flatten())
    return found


def fit(folder: Path, language: Language, steps: int) -> Path:
    """Fit the tiny checkpoint of `PRESET` to a language, and write it: BF16, MTP experts packed.

    Args:
        folder: Where to; it does not exist.
        language: What it learns to predict.
        steps: Batches of `ROWS` times `LENGTH` tokens, each drawn anew.

    Returns:
        The folder.
    """
    with tempfile.TemporaryDirectory(prefix="mtp-demo-") as scratch:
        base = CheckpointSpec(preset(PRESET)).write(Path(scratch, PRESET))
        stored = dict(read_folder(base))
        model = Reference(base, stored)
        fitted = dict(_fitted(model))
        optimizer = torch.optim.AdamW(fitted.values(), lr=_RATE, betas=(0.9, 0.95), weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, (step + 1) / _WARM) * (1 - step / steps)
        )
        for step in range(steps):
            tokens = language.draw(ROWS, LENGTH, seed=step)
            optimizer.zero_grad()
            sum(losses(model.logits({"input_ids": tokens}), tokens).values()).backward()
            torch.nn.utils.clip_grad_norm_(fitted.values(), 1.0)
            optimizer.step()
            schedule.step()
        made = {key: RawTensor.from_torch(value.detach().bfloat16()) for key, value in fitted.items()}
        return write_checkpoint(folder, stored | made, like=base)


def _fitted(model: Reference) -> Iterator[tuple[str, torch.Tensor]]:
    for key, parameter in model.weights().items():
        fits = not any(part in key for part in _AS_IT_IS)
        parameter.requires_grad_(fits)
        if fits:
            yield key, parameter
