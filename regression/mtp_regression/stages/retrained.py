"""Exports of a model whose parameters have changed, as training changes them."""

from __future__ import annotations

import shutil
from functools import partial

import numpy as np

from mtp_checkpoint.layouts.expert_layout import SCALE_SUFFIX
from mtp_checkpoint.layouts.keys import VISION_PREFIX
from mtp_regression.comparison.other_checkpoint import Moved, SignFlipped
from mtp_regression.comparison.tensors import Tensors
from mtp_regression.oracle.fill import fill
from mtp_regression.provenance.origins import Origins
from mtp_regression.stages.case import Outcome
from mtp_regression.stages.exports import save_and_compare, streamed
from mtp_regression.stages.loaded import Loaded
from mtp_regression.stages.native import expected, whose_vision


def retrained(loaded: Loaded) -> Outcome:
    """Give every parameter another value, and compare both exports with the checkpoint that has those.

    Where the oracle knows the model they are the values of another checkpoint; for other models the sign bit
    of every matrix's elements is flipped, of those apart that are called as scales are in a checkpoint.
    """
    loaded.changed()
    if loaded.case.generated is not None and loaded.world.rank == 0:  # one copy on disk at a time
        shutil.rmtree(loaded.folder / "saved", ignore_errors=True)
    knows = loaded.bridge.has_oracle
    kept = "" if whose_vision(loaded) else VISION_PREFIX
    other = Moved(loaded.source, kept=kept) if knows else SignFlipped(loaded.source)
    retrain = partial(_fill, other=other) if knows else _flip
    with loaded.step("fill"):
        retrain(loaded)
    origins = Origins(other, before=[loaded.source], config=loaded.config)
    outcome = streamed(loaded, other, origins)
    if knows:
        with loaded.step("fill"):
            retrain(loaded)  # so that a stream that changes the model costs its own stage alone
    outcome += save_and_compare(loaded, other, loaded.folder / "retrained", origins)
    return outcome


def _fill(loaded: Loaded, other: Tensors) -> None:
    """Give this rank's parameters the values that it would have of another checkpoint.

    What the oracle leaves alone keeps its own: see the stage `native`.
    """
    fill(expected(loaded, other), loaded.bridge.parameters())


def _flip(loaded: Loaded) -> None:
    for name, parameter in loaded.bridge.parameters():
        if parameter.ndim < 2 or name.endswith(SCALE_SUFFIX):
            continue
        if isinstance(parameter, np.ndarray):
            bits = parameter.view(f"i{parameter.itemsize}")  # as a number, a NaN may lose its payload
            bits ^= np.iinfo(bits.dtype).min
        else:
            import torch

            integer = getattr(torch, f"int{8 * parameter.element_size()}")
            parameter.data.view(integer).bitwise_xor_(torch.iinfo(integer).min)
