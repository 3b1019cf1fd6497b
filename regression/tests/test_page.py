"""The page of a report, as it is written: all of it text, self-contained, small, from a wheel too."""

import json
import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from typer.testing import CliRunner

from mtp_regression.commands.app import app
from mtp_regression.page.write import write_page

from .page_reports import HOSTILE, conformance, failing, hostile, page, record, report, wrong

REPOSITORY = Path(__file__).parents[2]
MOST = 3_000_000
"""Bytes of a page."""


class Tags(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_markup_of_a_report_is_text(tmp_path: Path) -> None:
    found = Tags(page(tmp_path / "page.html", hostile()))
    assert [tag for tag, _ in found.tags].count("script") == 1
    assert "img" not in {tag for tag, _ in found.tags}
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    assert found.text.count(HOSTILE) > 30


def test_half_a_character_is_no_error(tmp_path: Path) -> None:
    tensors = wrong(1, json.loads('"\\ud83d"'))
    assert r"\ud83d" in page(tmp_path / "page.html", report(record(verdict="wrong", tensors=tensors)))


def test_page_needs_nothing_from_anywhere(tmp_path: Path) -> None:
    """Nothing in it has an address but places on it, and its policy lets nothing be loaded."""
    found = Tags(page(tmp_path / "page.html", failing()))
    addresses = {
        value
        for _, attributes in found.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster")
    }
    assert addresses
    assert all(re.fullmatch(r"#[a-z]+(-\d+)?", str(address)) for address in addresses)
    assert "style" not in {name for _, attributes in found.tags for name in attributes}
    (policy,) = (a["content"] for t, a in found.tags if t == "meta" and "http-equiv" in a)
    assert str(policy).startswith("default-src 'none'; style-src 'sha256-")


@pytest.mark.parametrize("tensors", [0, 400])
def test_page_of_all_checks_is_small(tensors: int, tmp_path: Path) -> None:
    """Also if every check fails, with other tensors and tracebacks each."""
    assert len(page(tmp_path / "page.html", conformance(tensors=tensors)).encode()) < MOST


def test_all_tensors_are_there_and_the_first_are_shown(tmp_path: Path) -> None:
    text = page(tmp_path / "page.html", report(record(verdict="wrong", tensors=wrong(12))))
    shown, _, more = text.partition("All 12 tensors of native")
    rows = re.compile(r"<code>mtp.*?</code>")
    assert (len(rows.findall(shown)), len(rows.findall(more))) == (5, 12)


def test_one_crash_is_told_once(tmp_path: Path) -> None:
    error = failing()["records"][-2]["crash"]
    assert error
    both = failing()
    both["records"][1]["crash"] = error
    text = page(tmp_path / "page.html", both)
    assert text.count("Traceback (most recent call last)") == 1
    assert 'href="#crash-1">the same as in another cell' in text


def test_there_is_a_report_and_a_title_for_each(tmp_path: Path) -> None:
    for reports, titles in (([], []), ([failing()], ["one", "two"])):
        with pytest.raises(ValueError, match="at least one report, and a title"):
            write_page(reports, tmp_path / "page.html", titles=titles)
    write_page([failing(), failing()], tmp_path / "pages" / "page.html", titles=["before", "after"])
    text = (tmp_path / "pages" / "page.html").read_text(encoding="utf-8")
    assert "<h1>Checks of before and after</h1>" in text
    assert list(tmp_path.rglob("*.unfinished")) == []


def test_wheel_has_the_templates(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(REPOSITORY)).build(directory=str(tmp_path), versions=["standard"])
    templates = REPOSITORY / "regression" / "mtp_regression" / "page" / "templates"
    names = {f"mtp_regression/page/templates/{path.name}" for path in templates.iterdir()}
    assert len(names) == 4
    assert names <= set(zipfile.ZipFile(wheel).namelist())


def test_run_that_fails_writes_its_page(tmp_path: Path) -> None:
    words = ["roundtrip", "--adapter", "mtp_regression.mutants.bridges:experts-in-turn", "--parallel", "ep2"]
    words += ["--stage", "native", "--report", f"{tmp_path}/report.json", "--html", f"{tmp_path}/page.html"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 1
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "0 of 2 cells exact; 2 wrong: qwen3.5-35b-a3b and qwen3.6-35b-a3b in ep2." in text
    first = text.partition('<ol class="reasons"')[0].replace("<wbr>", "")
    assert re.findall(r"<dt>(.*)</dt>", first) == ["what happened", "why", "what to do"]
    assert "--parallel ep2 --stage native" in first
    assert "linear_fc1.weight1 is expert 2&#39;s, not expert 1&#39;s, for example" in first
    assert '<p class="example">' in text


def test_page_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words = ["roundtrip", "--adapter", "in-memory", "--parallel", "tp1", "--stage", "native"]
    words += ["--report", f"{tmp_path}/report.json", "--html", f"{tmp_path}/file/page.html"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 2
    assert "report.json is there, but its page cannot be written: " in " ".join(done.output.split())
    assert (tmp_path / "report.json").exists()


def test_option_has_no_effect_where_nothing_runs() -> None:
    done = CliRunner().invoke(app, ["conformance", "in-memory", "--list", "--html", "page.html"])
    assert done.exit_code == 2
    assert "--html: has no effect with --list" in " ".join(done.output.split())
