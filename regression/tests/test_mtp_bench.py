"""The benchmarks: what is measured of a process, the machine without its name, and the page."""

import json
import platform
from functools import partial
from pathlib import Path

import pytest

from mtp_regression.maintenance.bench.machine import machine
from mtp_regression.maintenance.bench.page import page
from mtp_regression.maintenance.bench.process import Cost, Usage, alternately, python, run
from mtp_regression.maintenance.bench.run import DATA

DOCS = Path(__file__).parents[2] / "docs"
SPENDS = "import time\nfor _ in iter(lambda: time.process_time() < 0.1, False): pass"


def test_page_is_made_of_what_was_measured() -> None:
    found = json.loads((DOCS / DATA).read_text())
    assert (DOCS / "benchmarks.md").read_text() == page(found)
    assert all(
        (DOCS / DATA).with_name(f"{name}.svg").exists() for name in ("pairs", "growth") if name in found
    )


def test_limit_that_is_missed_is_on_the_page() -> None:
    row = {"axis": "tensors", "what": "diff", "points": [[10, 0.1], [100, 10]], "slope": 2.0, "held": False}
    part = {"date": "2026-01-01", "machine": {"CPU": "a CPU"}, "rows": [row]}
    assert "| tensors | diff | 10: 0.1, 100: 10 | 2.00, MISSED |" in page({"growth": part})
    row["held"] = True
    assert "MISSED" not in page({"growth": part})


def test_process_is_measured_alone(tmp_path: Path) -> None:
    held = b"x" * 150_000_000
    spent = run(python(SPENDS))
    assert spent.cpu is not None
    assert spent.memory is not None
    assert spent.cpu > 0.05
    assert spent.seconds > 0.05
    assert 1_000_000 < spent.memory < len(held), "it is not that of the process which started it"
    (tmp_path / "in").write_bytes(b"some bytes")
    run(["cat"], stdin=tmp_path / "in", stdout=tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"some bytes"


def test_command_that_fails_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"^exit code 3: "):
        run(python("raise SystemExit(3)"))
    run(python("raise SystemExit(3)"), code=3)


def test_runs_take_turns() -> None:
    order: list[str] = []

    def one(name: str) -> Usage:
        order.append(name)
        return Usage(len(order), memory=len(order))

    first, second = alternately([partial(one, "a"), partial(one, "b")], times=3)
    assert order == ["a", "b"] * 3
    assert first == Cost((1, 3, 5), (), 5)
    assert second == Cost((2, 4, 6), (), 6)


def test_machine_has_no_name_and_no_paths() -> None:
    said = " ".join(f"{name} {value}" for name, value in machine().items())
    assert "cores" in said
    assert "/" not in said
    assert platform.node() not in said
