"""`mtpkit report`: what a run printed, from its file; Markdown to paste; what GitHub shows."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mtp_regression.commands.app import app
from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.ranks.devices import Device
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.reporting.document import report_of, write_report
from mtp_regression.reporting.github import announce
from mtp_regression.reporting.markdown import escaped, issue
from mtp_regression.reporting.record import Crash, Record
from mtp_regression.reporting.terminal import show
from mtp_regression.roundtrip.asked import about
from mtp_regression.stages.case import Case, Stage

from .test_terminal import EXACT

EXPERTS = [f"mtp.layers.0.mlp.experts.{e}.up_proj.weight" for e in range(8)]
CRASH = Crash(
    Stage.STREAM, 0, "raised", "builtins.ValueError", "no `type`", refused=False, text="raised\n\nTrace\n```x"
)
RECORDS = [
    EXACT,
    replace(
        EXACT,
        stage=Stage.STREAM,
        verdict=Verdict.WRONG,
        tensors=[Finding(name, Verdict.WRONG, f"{n} differ") for n, name in enumerate(EXPERTS)],
        warnings=["100% <lost>"],
    ),
    replace(EXACT, stage=Stage.SAVED, verdict=Verdict.CRASH_EXPORT, crash=CRASH),
]
MADE = {"given": "first", "made": "mtpkit generate qwen3.6-35b-a3b first", "mtp_experts": "packed"}


def written(path: Path, *records: Record) -> Path:
    report = report_of(
        records,
        device=Device.CPU,
        import_seconds=20,
        seconds=2,
        command="mtpkit roundtrip first",
        checkpoints={"first": MADE},
    )
    write_report(report, path)
    return path


def mtpkit(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False, env={"COLUMNS": "110"})
    return done.exit_code, done.output


def test_a_report_is_printed_as_the_run_printed_it(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", *RECORDS)
    console = Console(file=io.StringIO(), width=110)
    show(console, RECORDS, json.loads(path.read_text()))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "8 tensors, mtp.layers.0.mlp.experts.{0-7}.up_proj.weight" in printed
    assert mtpkit("report", path) == (1, printed)


def test_several_reports_and_exit_codes(tmp_path: Path) -> None:
    good, bad = written(tmp_path / "a.json", EXACT), written(tmp_path / "b.json", *RECORDS)
    assert mtpkit("report", good)[0] == 0
    code, printed = mtpkit("report", good, bad)
    assert (code, printed.count("cells exact in")) == (1, 2)
    assert mtpkit("report", good, tmp_path / "absent.json")[0] == 2
    (tmp_path / "odd.json").write_text('{"schema": 5, "records": [{"bridge": "x"}]}')
    code, printed = mtpkit("report", tmp_path / "odd.json")
    assert (code, "cannot be read" in printed) == (2, True)


AGAIN = "mtpkit roundtrip first --parallel tp1 --stage stream"
MARKDOWN = r"""### `bridge 1.0`: failed

- **what happened**: crash-export: ValueError: no `type`; in first in tp1: saved
- **what to do**: look at the smallest failing check alone: AGAIN
- 0 of 1 cells exact in 2.0 s after an import of 20.0 s; modules from engine
- stages: native, stream, saved
- no cell ran on more than one rank: what ranks share was not tested
- command: `mtpkit roundtrip first`
- mtp-bridge-kit KIT, device cpu

Smallest reproduction:

```sh
mtpkit generate qwen3.6-35b-a3b first
mtpkit roundtrip first --parallel tp1 --stage stream
```

- **crash-export**: ValueError: no `type`
  - in first in tp1: saved
- **wrong**: 8 tensors, mtp.layers.0.mlp.experts.{0-7}.up\_proj.weight
  - mtp.layers.0.mlp.experts.0.up\_proj.weight: 0 differ
  - in first in tp1: stream
- the bridge warned: `100% <lost>`

<details><summary>crash-export: ValueError: no `type`</summary>

````
raised
Trace
```x
````

</details>

"""


def test_markdown_to_paste_into_an_issue(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", *RECORDS)
    kit = json.loads(path.read_text())["kit"]
    assert mtpkit("report", path, "--format", "markdown") == (
        1,
        MARKDOWN.replace("KIT", kit).replace("AGAIN", AGAIN),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b <c>", r"a\_b &lt;c&gt;"),
        ("say `a_b` | c", r"say `a_b` \| c"),
        ("one ` alone_", r"one ' alone\_"),
    ],
)
def test_names_are_no_markup(text: str, expected: str) -> None:
    assert escaped(text) == expected


def test_annotations_and_summary_on_github(tmp_path: Path) -> None:
    report = json.loads(written(tmp_path / "a.json", *RECORDS).read_text())
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    printed = io.StringIO()
    announce(RECORDS, report, {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}, printed)
    odd = replace(RECORDS[2], crash=replace(CRASH, message="5% of a,b\nmore"))
    announce([odd], report, {"GITHUB_ACTIONS": "true"}, printed)
    assert printed.getvalue().splitlines() == [
        "::error title=bridge 1.0%3A crash-export::ValueError: no `type`%0Ain first in tp1: saved",
        (
            "::error title=bridge 1.0%3A wrong::8 tensors, mtp.layers.0.mlp.experts.{0-7}.up_proj.weight"
            "%0Amtp.layers.0.mlp.experts.0.up_proj.weight: 0 differ%0Ain first in tp1: stream"
        ),
        "::error title=bridge 1.0%3A crash-export::ValueError: 5%25 of a,b%0Ain first in tp1: saved",
    ]
    assert summary.read_text() == "before\n" + issue(RECORDS, report)


def test_elsewhere_nothing_is_announced() -> None:
    printed = io.StringIO()
    announce(RECORDS, {}, {}, printed)
    announce(RECORDS, {}, {"GITHUB_ACTIONS": "false"}, printed)
    assert printed.getvalue() == ""


def test_how_a_checkpoint_is_made_is_told_of_those_of_presets_alone(tmp_path: Path) -> None:
    for words in (["first"], ["seeded", "--seed", "1"], ["other", "--mtp-experts", "per-expert"]):
        assert mtpkit("generate", "qwen3.6-35b-a3b", tmp_path / words[0], *words[1:])[0] == 0
    found = about(Case("x:Y", tmp_path / name, Parallel()) for name in ("first", "seeded", "other"))
    assert found["first"] == MADE
    assert found["seeded"] == {"given": "seeded", "made": "", "mtp_experts": "packed"}
    assert found["other"] == {"given": "other", "made": "", "mtp_experts": "per-expert"}
