"""The page of bridges is what is known, and what is declared of a bridge has a finding if it says so."""

import json
import re
from pathlib import Path

import pytest

from mtp_regression import adapters
from mtp_regression.findings.finding import read_findings
from mtp_regression.maintenance.board.page import page
from mtp_regression.maintenance.board.table import KNOWN, main, rows
from mtp_regression.roundtrip.declared import read_declared

ROOT = Path(__file__).parents[2]
BRIDGES = ("mcore-bridge", "nemo-automodel", "sglang", "transformers", "vllm")


def test_page_is_what_is_known() -> None:
    assert (ROOT / "docs" / "board.md").read_text(encoding="utf-8") == page()


def test_every_environment_is_known_and_pinned() -> None:
    known = sorted(file.stem for file in KNOWN.glob("*.json"))
    requirements = ROOT / "requirements"
    pinned = sorted(file.stem for bridge in BRIDGES for file in requirements.glob(f"{bridge}-*.txt"))
    assert known == pinned
    for name in known:
        assert name.rpartition("-")[0] in adapters.SHIPPED
        pins = (requirements / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        assert "==".join(name.rpartition("-")[::2]) in pins


@pytest.mark.parametrize("bridge", BRIDGES)
def test_what_is_declared_with_a_finding_has_it(bridge: str) -> None:
    titles = {finding.title for finding in read_findings()}
    folder = Path(adapters.__file__).parent
    (declared,) = folder.rglob(f"{bridge.replace('-', '_')}.toml")
    for entry in read_declared(declared):
        for title in re.findall(r"\(finding: (.*)\)", entry.reason):
            assert title in titles


def record(check: str, *verdicts: str, crash: str = "") -> dict[str, object]:
    checkpoint, _, stage = check.partition("::")
    return {
        "bridge": "bridge 1.0",
        "checkpoint": checkpoint,
        "parallel": "tp1",
        "stage": stage,
        "crash": {"stage": crash} if crash else None,
        "tensors": [{"verdict": verdict} for verdict in verdicts],
    }


@pytest.mark.parametrize(
    ("found", "cell"),
    [
        ([record("a::stream"), record("a::saved")], "exact"),
        (
            [record("a::stream", "flip", "flip", "dtype"), record("a::saved", "flip")],
            "stream dtype + flip, saved flip",
        ),
        ([record("a::stream", crash="load")], "stream crash-import"),
        ([record("a::stream", crash="stream")], "stream crash-export"),
        ([record("a::refused", "wrong")], "loaded"),
        ([record("a::refused", crash="load")], "refused"),
        ([record("a::refused", "wrong", crash="load")], "fails, and names nothing of it"),
    ],
)
def test_cell_says_what_was_found(found: list[dict[str, object]], cell: str) -> None:
    assert rows(found) == ("bridge-1.0", {"a": {"tp1": cell}})


def test_another_cell_is_an_error_in_either_direction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mtp_regression.maintenance.board.table.KNOWN", tmp_path / "known")
    exact, flip = ({"records": [record("a::stream", *found)]} for found in ([], ["flip"]))
    for report, update, code in (
        (exact, True, 0),
        (exact, False, 0),
        (flip, False, 1),
        (flip, True, 0),
        (exact, False, 1),
    ):
        path = tmp_path / "report.json"
        path.write_text(json.dumps(report))
        assert main([path], update=update) == code
    assert (
        "bridge-1.0: a: known as {'tp1': 'stream flip'}, and is {'tp1': 'exact'}" in capsys.readouterr().out
    )
