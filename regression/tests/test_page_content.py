"""What the page of a report says: its sentences, what changed, logs, and colours that can be read."""

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from mtp_regression.page.content import content_of
from mtp_regression.page.logs import log

from .page_reports import failing, page, record, report, wrong

BAD: dict[str, Any] = {"verdict": "wrong", "tensors": wrong(3)}


@pytest.mark.parametrize(
    ("said", "given"),
    [
        ("No cell was run.", report()),
        ("The cell is exact.", report(record())),
        ("All 2 cells are exact.", report(record(), record("tp2"))),
        ("1 of 2 cells exact; 1 wrong: packed in tp2.", report(record(), record("tp2", **BAD))),
        (
            "1 of 3 cells exact; 2 wrong: packed in tp2 and tp4.",
            report(record(), record("tp2", **BAD), record("tp4", **BAD)),
        ),
        (
            "0 of 2 cells exact; 1 wrong, 1 missing.",
            report(record("tp2", verdict="missing"), record(**BAD)),
        ),
        (
            "0 of 5 cells exact; 5 wrong: packed in all 5 layouts.",
            report(*(record(f"tp{n}", **BAD) for n in range(5))),
        ),
        (
            "1 of 6 cells exact; 5 wrong: packed in 5 of 6 layouts.",
            report(record(), *(record(f"ep{n}", **BAD) for n in range(5))),
        ),
        (
            "1 of 5 cells exact; 4 wrong: in 4 of 5 checkpoints.",
            report(record(), *(record(checkpoint=f"p{n}", **BAD) for n in range(4))),
        ),
        ("0 of 1 cells exact; 1 stale exception: packed in tp1.", report(record(stale=["a: b"]))),
        ("0 of 1 cells exact; 1 nothing compared: packed in tp1.", report(record(compared=0))),
        ("The cell is exact; 1 did not end.", report(record(), unfinished=["packed, tp2"])),
        ("The cell is exact; 1 not as in the earlier report.", report(record(), differences=["x"])),
    ],
)
def test_verdict_in_a_sentence(said: str, given: dict[str, Any]) -> None:
    content = content_of([given], (), ())
    assert content.verdict(0) == said
    assert content.passed is (said in ("The cell is exact.", "All 2 cells are exact."))


def test_two_reports_side_by_side(tmp_path: Path) -> None:
    """Better and worse are of the same checkpoint, layout and stage, whatever the bridge."""
    before = report(
        record("tp1"), record("tp2", **BAD), record("ep2", **BAD), record("ep4", **BAD), record("pp2", **BAD)
    )
    fewer: dict[str, Any] = {"verdict": "wrong", "tensors": wrong(1)}
    after = report(
        *(record("tp1", **BAD), record("tp2"), record("ep2", **fewer), record("ep4", **BAD), record("pp4")),
    )
    for fields in after["records"]:
        fields["bridge"] = "theirs 1.1"
    content = content_of([before, after], (), ())
    words = {change.record.parallel: change.change for change in content.changes[0]}
    assert words == {"tp1": "worse", "tp2": "better", "ep2": "better"}
    said = "From theirs 1.0 to theirs 1.1, of 4 checks in both: 2 better, 1 worse, 1 as before."
    assert content.comparison(1) == said
    text = page(tmp_path / "page.html", before, after)
    assert said in text
    grid = text.partition('<table class="grid">')[2].partition("</table>")[0]
    assert re.findall(r'<th scope="row" class="report">(.*?)</th>', grid) == ["theirs 1.0", "theirs 1.1"]
    assert (grid.count("▲</span> better"), grid.count("▼</span> worse")) == (2, 1)
    assert grid.count("not run") == 2


def test_three_reports_with_the_same_changes(tmp_path: Path) -> None:
    worse = report(record(**BAD))
    text = page(tmp_path / "page.html", report(record()), worse, worse)
    for number in (2, 3):
        assert f"<summary>theirs 1.0 (1) to theirs 1.0 ({number}): 1 check</summary>" in text


def test_reports_of_one_bridge_are_told_apart() -> None:
    assert content_of([failing(), failing()], (), ()).titles == ["theirs 1.0 (1)", "theirs 1.0 (2)"]


def test_many_checkpoints_of_one_layout_are_a_list() -> None:
    alone = [record(checkpoint=f"p{n}") for n in range(5)]
    content = content_of([report(record(), record("tp2"), *alone)], (), ())
    assert [name for name, _ in content.rows] == ["packed"]
    assert [case.checkpoint for case in content.alone] == ["p0", "p1", "p2", "p3", "p4"]
    assert content_of([report(record(), record("tp2"), *alone[:4])], (), ()).alone == []


def test_ends_of_logs_beside_the_report(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "packed" / "ep2"
    folder.mkdir(parents=True)
    lines = [f"line {number} <b>" for number in range(90)]
    (folder / "rank0.log").write_text("\x1b[31m" + "\n".join(lines))
    text = page(tmp_path / "page.html", failing(), folders=[tmp_path])
    assert "<code>packed/ep2/rank0.log</code>, the last 50 lines" in text
    assert "line 40 &lt;b&gt;" in text
    assert "line 39 " not in text
    assert "<code>packed/ep2/rank1.log</code></p>" in text  # not there
    assert "line 40" not in page(tmp_path / "page.html", failing())
    assert log("logs/packed/ep2/rank0.log", tmp_path, 30).tail == "line 88 <b>\nline 89 <b>"


@pytest.mark.parametrize(
    "recorded", ["{folder}/secret", "logs/../secret", "logs/link", "logs/{folder}/secret", "secret", "logs"]
)
def test_no_other_file_is_read(recorded: str, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "logs" / "link").symlink_to(tmp_path / "secret")
    assert log(recorded.format(folder=tmp_path), tmp_path, 1000).tail == ""


STYLE = (files("mtp_regression.page") / "templates" / "page.css").read_text(encoding="utf-8")
TEXT = [(ink, "paper") for ink in ("ink", "muted", "link", "good", "bad")] + [
    *((ink, "raised") for ink in ("ink", "muted")),
    *((ink, "bad-paper") for ink in ("ink", "bad", "good")),
]


def themes() -> dict[str, dict[str, str]]:
    """The colours of both themes, by name."""
    light, dark = re.findall(r":root {(.*?)}", STYLE, re.DOTALL)
    found = {"light": light, "dark": dark}
    return {theme: dict(re.findall(r"--([\w-]+): (#\w{6});", block)) for theme, block in found.items()}


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, as WCAG 2.2 defines it: from 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast(theme: str) -> None:
    """Level AA: 4.5 for text, 3 for what shows the focus and what controls are made of."""
    colours = themes()[theme]
    assert {"line", *(name for pair in TEXT for name in pair), "focus"} == colours.keys()
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    weak = {pair: figure for pair in TEXT if (figure := contrast(*(colours[name] for name in pair))) < 4.5}
    assert weak == {}
    assert contrast(colours["focus"], colours["paper"]) >= 3


def test_colours_are_named_once() -> None:
    """What has no name has no theme."""
    rules = re.sub(r":root {.*?}", "", STYLE, flags=re.DOTALL)
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b|rgba?\(|hsla?\(", rules) == []
