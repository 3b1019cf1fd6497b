"""A checkpoint that contradicts itself, and was loaded all the same."""

from __future__ import annotations

from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.stages.case import Outcome
from mtp_regression.stages.loaded import Loaded


def refused(loaded: Loaded) -> Outcome:
    """Say that no rank's load ended in an error: with one this stage is not reached."""
    what = ", ".join(loaded.case.wrong[:3])
    return Outcome(compared=1, findings=[Finding("the checkpoint", Verdict.WRONG, f"was loaded: {what}")])
