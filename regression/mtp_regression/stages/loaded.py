"""A bridge on one rank with a checkpoint loaded: what every stage works on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import xxhash

from mtp_checkpoint.inspection.declaration import CONFIG_NAME
from mtp_regression.adapters.using import Used
from mtp_regression.comparison.generated import tensors_of, torch_tensors
from mtp_regression.comparison.other_checkpoint import WithoutMtp
from mtp_regression.comparison.tensors import RawTensor, Tensors
from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.oracle.check import parameter_finding
from mtp_regression.provenance.values import said_of_one
from mtp_regression.ranks.parallel import Parallel, Resharding
from mtp_regression.ranks.rank import Rank
from mtp_regression.stages.case import Case


class Loaded:
    """One rank of a case.

    Attributes:
        world: The rank.
        case: The case.
        folder: Where stages may put files; the same on every rank.
        bridge: The adapter's object, as the suite uses it.
        parallel: The layout that its model has.
        stored: The checkpoint's tensors.
        source: Those that the bridge should carry.
        config: The `config.json` that belongs to them.
        without_mtp: Whether the bridge leaves MTP out.
    """

    def __init__(self, world: Rank, case: Case, folder: Path) -> None:
        """Make the adapter, and load nothing yet."""
        self.world, self.case, self.folder = world, case, folder
        self.bridge = self._adapter()
        self.parallel = self._first_parallel
        self.without_mtp = bool(getattr(self.bridge, "without_mtp", False))
        self.stored = tensors_of_case(case)
        self.source = self.carried(self.stored)
        self.config: dict[str, Any] = json.loads((case.checkpoint / CONFIG_NAME).read_text(encoding="utf-8"))
        if self.without_mtp:
            self.config.get("text_config", self.config)["mtp_num_hidden_layers"] = 0
        self._as_loaded = False

    @property
    def _first_parallel(self) -> Parallel:
        parallel = self.case.parallel
        return parallel.before if isinstance(parallel, Resharding) else parallel

    def _adapter(self) -> Used:
        bridge = Used(self.case.adapter, self.world)
        if self.case.generated is not None:
            bridge.read_from(torch_tensors(self.case.generated))
        return bridge

    def carried(self, checkpoint: Tensors) -> Tensors:
        """Return what the bridge should carry of a checkpoint: all but MTP if it leaves that out."""
        return WithoutMtp(checkpoint) if self.without_mtp else checkpoint

    def load(self) -> None:
        """Load the checkpoint."""
        self.parallel = self._first_parallel
        with self.step("build"):
            self.bridge.build(self.case.checkpoint, self.parallel)
        self.bridge.load(self.case.checkpoint)
        self._as_loaded = True

    def load_megatron(self, folder: Path, parallel: Parallel) -> None:
        """Load Megatron's checkpoint, through another adapter, into a new model in another layout."""
        self.changed()
        self.bridge.close()
        self.bridge, self.parallel = self._adapter(), parallel
        self.bridge.load_megatron(folder, self.case.checkpoint, parallel)

    def restore(self) -> None:
        """Load the checkpoint into a new model, if a stage has changed the model on any rank.

        Called on every rank, before each stage.
        """
        if all(self.gather(self._as_loaded)):
            return
        with self.step("load"):
            self.bridge.close()
            self.bridge = self._adapter()
            self.load()

    def changed(self) -> None:
        """Say that the model no longer is as it was loaded."""
        self._as_loaded = False

    @contextmanager
    def unchanged(self, what: str = "the export") -> Iterator[list[Finding]]:
        """Look whether what is done in a `with` block leaves the model alone.

        Args:
            what: That, for the findings.

        Yields:
            A list; at the end of the block it has a finding for each parameter of this rank that has changed.
        """
        with self.step("digest"):
            before = self._digests()
        findings: list[Finding] = []
        yield findings
        with self.step("digest"):
            after = self._digests()
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        said = {
            name: said_of_one(RawTensor.of(one, copy=False))
            for name, one in self.bridge.parameters()
            if name in changed
        }
        for name in changed:
            found = parameter_finding(name, Verdict.WRONG, f"{what} has changed this parameter")
            findings.append(self.on_this_rank(replace(found, origin=said.get(name, ""))))
        if findings:
            self.changed()

    def _digests(self) -> dict[str, bytes]:
        named = ((name, RawTensor.of(tensor, copy=False)) for name, tensor in self.bridge.parameters())
        return {name: digest(tensor) for name, tensor in named}

    def on_this_rank(self, finding: Finding) -> Finding:
        """Say of a parameter's finding on which rank it was made."""
        return finding.on_rank(self.world.rank)

    def stream(self) -> Iterator[tuple[str, Any]]:
        """Yield what the bridge streams; what it takes is the step `export`."""
        tensors = iter(self.bridge.stream())
        while True:
            with self.step("export"):
                item = next(tensors, None)
            if item is None:
                return
            yield item

    def save(self, folder: Path) -> None:
        """Have the bridge save, and wait for all ranks."""
        with self.step("save"):
            self.bridge.save(folder)
        self.barrier()

    def step(self, name: str) -> AbstractContextManager[None]:
        """Book what a `with` block takes in the rank's ledger."""
        return self.world.ledger.step(name)

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value, in rank order; called on every rank."""
        return self.world.gather(value)

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.world.barrier()


def tensors_of_case(case: Case) -> Tensors:
    """Give the tensors of a case's checkpoint; none of one that is to be refused: it is only loaded."""
    return {} if case.wrong else tensors_of(case.checkpoint, case.generated)


def digest(tensor: RawTensor) -> bytes:
    """Return a digest of a tensor's dtype, shape and bytes.

    It tells what has changed by mistake, and need not stand up to who forges tensors: it costs a read of
    memory, where a cryptographic one costs twenty.
    """
    state = xxhash.xxh3_128(f"{tensor.dtype}{tensor.shape}".encode())
    state.update(tensor.data)
    return state.digest()
