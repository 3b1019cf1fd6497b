"""Measures what unloaded MTP experts do to training, and makes docs/training.md and docs/training.svg.

python -m mtp_regression.maintenance demo
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mtp_regression.adapters import MEGATRON_BRIDGE
from mtp_regression.maintenance.demo.page import page
from mtp_regression.ranks import run as ranks

FITTING, TRAINING = 250, 30
"""Steps."""
NEAR = 1e-4
"""How near losses are that are the same: relative, in float32 and in another order of sums."""
MORE, ELSEWHERE, SAME = 1.5, 0.5, 0.01
"""How the page's words are meant: a longer gradient, a cosine, and nats."""
_TIME_LIMIT = 1800.0


def main(folder: Path) -> int:
    """Measure, and write the page, the figure and what was measured into a folder.

    Returns:
        1 if the patched model's losses are not the reference's, or the unpatched one's are: no page then.
    """
    from mtp_regression.maintenance.demo.figure import description, figure  # fails before minutes are spent

    found = results(FITTING, TRAINING)
    print(description(found))
    wrong = list(problems(found))
    for problem in wrong:
        print(problem)
    if wrong:
        return 1
    (folder / "training.svg").write_text(figure(found), encoding="utf-8")
    (folder / "training.md").write_text(page(found), encoding="utf-8")
    return 0


def results(fitting: int, training: int) -> dict[str, Any]:
    """Run `measure` on a rank, and return what it does."""
    with tempfile.TemporaryDirectory(prefix="mtp-demo-") as scratch:
        [found] = ranks.run(
            _measure,
            Path(scratch),
            fitting,
            training,
            world_size=1,
            time_limit=_TIME_LIMIT,
            log_folder=Path(scratch, "logs"),
            preload=[MEGATRON_BRIDGE.partition(":")[0]],
        )
    return dict(found)


def _measure(*arguments: Any) -> dict[str, Any]:
    from mtp_regression.maintenance.demo.measure import measure  # imports Megatron: on the rank alone

    return measure(*arguments)


def problems(found: Mapping[str, Any]) -> Iterator[str]:
    """Say what is not as the page tells it.

    Args:
        found: From `results`.
    """
    for head, expected in found["reference"]["losses"].items():
        for name in ("patched", "unpatched"):
            loss = found[name]["losses"][head]
            right = name == "patched" or head == "main"
            if (abs(loss - expected) <= NEAR * expected) != right:
                yield f"{name}: the loss of {head} is {loss}, the reference's {expected}"
    right, leak = (found[name]["gradients"]["decoder"] for name in ("patched", "unpatched"))
    if leak["mtp"] < MORE * right["mtp"] or leak["cosine"] > ELSEWHERE:
        yield f"little leaks into the decoder: {leak}, patched {right}"
    for one, other in zip(found["patched"]["training"], found["unpatched"]["training"], strict=True):
        if abs(one[1]["main"] - other[1]["main"]) > SAME:
            yield f"the main loss does suffer: patched {one}, unpatched {other}"
