"""What the check does, in this order. Each step is guarded: its failure does not cost the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

from mtp_fixtures import CheckpointSpec, ExpertLayout, Scale, preset
from mtp_fixtures.model.scaling import with_decoder_layers
from mtp_regression.ranks.devices import Device
from mtp_regression.reporting.differences import compare_reports

ONE_RANK = ("tp1",)
SHARED = ("ep4", "tp2 pp2", "tp2", "pp2", "ep2")
"""Parallel layouts of four ranks, which import the bridge at once, and of two; each another collective."""
ON_DEVICE = "mtp_regression.adapters.variants:ExportOnDevice"
_SLICE = "qwen3.6-35b-a3b"
_SLICE_LAYERS = 4
"""Decoder layers of the real-size slice: three of linear, one of full attention; an MTP layer on top."""


class StepError(RuntimeError):
    """A step did not show what it should; the message says why."""


@dataclass
class Result:
    """What became of a step.

    Attributes:
        name: The step's name.
        passed: Whether it showed what it should.
        seconds: What it took.
        note: The figures in a few words, or why it failed.
    """

    name: str
    passed: bool
    seconds: float
    note: str


@dataclass
class Check:
    """One run of the check.

    Attributes:
        folder: Where reports and logs go.
        scratch: Where checkpoints go; on a disk with room for 25 GB at real scale.
        on_gpu: Without it all steps run on the CPU, as a test of the check.
        scale: Of the slice's dimensions.
        seconds: The most that all steps may take together.
        environment: That of the steps' processes.
        reports: Reports of the round trips that have run, by step.
    """

    folder: Path
    scratch: Path
    _: KW_ONLY
    on_gpu: bool = True
    scale: Scale = Scale.REAL
    seconds: float = 480.0
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self, steps: Collection[str] = ()) -> Iterator[Result]:
        """Take these steps, or all; yields the result of each as it ends."""
        deadline = time.monotonic() + self.seconds
        for name, step in STEPS.items():
            if steps and name not in steps:
                continue
            start = time.monotonic()
            self._left = deadline - start
            try:
                if self._left < _LEAST_SECONDS:
                    raise StepError(f"not run: {self.seconds:.0f} s are over")
                passed, note = True, step(self)
            except StepError as error:
                passed, note = False, str(error)
            except Exception:  # a fault of the step's own must not cost the others
                text = traceback.format_exc()
                (self.folder / f"{name}.error").write_text(text, encoding="utf-8")
                passed, note = False, text.strip().splitlines()[-1]
            yield Result(name, passed, time.monotonic() - start, note)

    @property
    def _shared(self) -> Sequence[str]:
        """Layouts of several ranks; as a test of the check, one of two ranks is enough."""
        return SHARED if self.on_gpu else SHARED[-1:]

    def doctor(self) -> str:
        """See what is there."""
        text = self._mtpkit("doctor", "doctor", "--json")
        found = {finding["name"]: finding["found"] for finding in json.loads(text)}
        (self.folder / "doctor.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        if self.on_gpu and not found.get("GPUs"):
            raise StepError("there is no GPU")
        return f"{found.get('GPUs') or 'no GPU'}; import of the bridge {found['import of the bridge']}"

    def one_rank(self) -> str:
        """Take both checkpoints through one rank: NCCL, CUDA tensors."""
        return self._roundtrip("one-rank", Device.CUDA, ONE_RANK)

    def shared_gpu(self) -> str:
        """Take both checkpoints through two and four ranks on the one GPU: gloo, CUDA tensors."""
        return self._roundtrip("shared-gpu", Device.CUDA_SHARED, self._shared)

    def cpu(self) -> str:
        """Take the same cells on this machine's CPU, and compare."""
        note = self._roundtrip("cpu", Device.CPU, (*ONE_RANK, *self._shared), on_gpu=False)
        compared = 0
        differences: list[str] = []
        for step in ("one-rank", "shared-gpu"):
            if step in self.reports:
                compared += len(self.reports[step]["records"])
                differences += compare_reports(self.reports[step], self.reports["cpu"])
        if differences or not compared:
            first = differences[0] if differences else "no cell ran on a GPU"
            raise StepError(f"{len(differences)} of {compared} records are not as on the CPU: {first}")
        return f"{note}; {compared} of {compared} records as on the GPU"

    def device_export(self) -> str:
        """Export tensors that stay on the GPU."""
        return self._roundtrip("device-export", Device.CUDA, ONE_RANK, "--adapter", ON_DEVICE)

    def real_size(self) -> str:
        """Take a slice of the real model, MTP per expert, from disk: few layers of published dimensions."""
        model = preset(_SLICE)
        geometry = with_decoder_layers(model.geometry(self.scale), _SLICE_LAYERS)
        start = time.monotonic()
        per_expert = ExpertLayout.PER_EXPERT
        spec = CheckpointSpec(model, dimensions=geometry, scale=self.scale, mtp_experts=per_expert)
        folder = spec.write(self.scratch / "slice-per-expert", manifest=False)
        size = sum(path.stat().st_size for path in folder.iterdir())
        made = f"{size / 1e9:.2f} GB made in {time.monotonic() - start:.0f} s"
        return f"{made}; {self._roundtrip('real-size', Device.CUDA, ONE_RANK, *_BRIEF, str(folder))}"

    def generated(self) -> str:
        """Take the slice as published, MTP packed, patched, from the generator: as the whole would be."""
        size = ("--scale", self.scale, "--layers", str(_SLICE_LAYERS))
        words = (*_BRIEF, "--patched", "--preset", _SLICE, *size)
        return self._roundtrip("generated", Device.CUDA, ONE_RANK, *words)

    def _roundtrip(
        self, step: str, device: Device, layouts: Sequence[str], *words: str, on_gpu: bool | None = None
    ) -> str:
        """Run `mtpkit roundtrip`; its report is kept under the step's name, whatever became of it."""
        if not (self.on_gpu if on_gpu is None else on_gpu):
            device = Device.CPU
        path = self.folder / step / "roundtrip.json"
        parallel = [word for layout in layouts for word in ("--parallel", layout)]
        options = ["--device", device, "--report", str(path), "--time-limit", _CASE_SECONDS, *parallel]
        try:
            self._mtpkit(step, "roundtrip", *words, *options)
        finally:
            if path.exists():
                self.reports[step] = json.loads(path.read_text(encoding="utf-8"))
        report = self.reports[step]
        cells = {(record["checkpoint"], record["parallel"]) for record in report["records"]}
        return f"{len(cells)} cells exact in {report['seconds']:.0f} s"

    def _mtpkit(self, step: str, *words: str) -> str:
        """Run the kit's command, its output in `STEP.log`; returns what it printed."""
        log = self.folder / f"{step}.log"
        command = [sys.executable, "-m", "mtp_regression", *words]
        with log.open("w", encoding="utf-8") as stream:
            try:
                done = subprocess.run(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=stream,
                    text=True,
                    env=dict(self.environment),
                    timeout=self._left,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                stream.write(str(error.stdout or ""))
                raise StepError(
                    f"did not end in the {self._left:.0f} s that were left; see {log.name}"
                ) from None
            stream.write(done.stdout)
        if done.returncode:
            lines = log.read_text(encoding="utf-8").strip().splitlines()
            told = [line for line in lines if " of " in line and "cells exact" in line] or lines[-1:]
            raise StepError(f"exit code {done.returncode}: {' '.join(told)[:160]}; see {log.name}")
        return done.stdout


_BRIEF = ("--stage", "native", "--stage", "stream", "--stage", "saved")
"""What the time suffices for at published dimensions."""
_LEAST_SECONDS = 5.0
_CASE_SECONDS = "240"

STEPS: Mapping[str, Callable[[Check], str]] = {
    "doctor": Check.doctor,
    "one-rank": Check.one_rank,
    "shared-gpu": Check.shared_gpu,
    "cpu": Check.cpu,
    "device-export": Check.device_export,
    "real-size": Check.real_size,
    "generated": Check.generated,
}
