"""The maintainers' jobs: what is asked for wrongly runs nothing, and is no success."""

import json
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mtp_regression.maintenance.app import app
from mtp_regression.maintenance.cases import table
from mtp_regression.maintenance.rooms import problems


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cases", "--updat"], "No such option: --updat"),
        (["cases", "no-such-scenario"], "no scenario has 'no-such-scenario' in its name"),
        (["cases", "packed", "no-such"], "no scenario has 'packed' and 'no-such' in its name"),
        (["cases-page", "text"], "unexpected extra argument"),
        (["known-bad", "no-such-report.json"], "does not exist"),
        (["patched-grid", "one", "two"], "unexpected extra argument"),
        (["coverage-limits", "text"], "unexpected extra argument"),
        (["te-parity", "--preset", "qwen"], "'qwen' is none of qwen3.5-0.8b, "),
        (["te-parity", "--parallel", "xp2"], "not a parallel layout: 'xp2'"),
        (["bench", "no-such-folder"], "does not exist"),
        (["bench", ".", "--only", "speed"], "'speed' is none of pairs, growth, memory"),
        (["bench", ".", "--drawn", "--only", "growth"], "--only: has no effect with --drawn"),
        (["fuzz", "shard"], "'shard' is none of header, index, "),
        (["fuzz", "--input", __file__], "it needs one READER"),
        (["fuzz", "--seconds", "0"], "0 is not in the range"),
        (["fuzz", "index", "--input", __file__, "--seconds", "60"], "--seconds: has no effect with --input"),
        (["gpu-check", "--pack", "folder", "--cpu"], "--cpu: has no effect with --pack"),
        (["gpu-check", "folder", "--pack", "folder"], "FOLDER: has no effect with --pack"),
        (["soak", "--runs", "1"], "1 is not in the range"),
        (["demo", "no-such-folder"], "does not exist"),
        (["case"], "No such command 'case'"),
    ],
)
def test_what_is_asked_for_wrongly_is_an_error(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_run", None)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_words_choose_the_scenarios_that_have_them_all() -> None:
    every = table.choose([])
    some = table.choose(["packed", "2"])
    assert 0 < len(some) < len(every)
    assert all("packed" in scenario.name and "2" in scenario.name for scenario in some)
    with pytest.raises(ValueError, match="no scenario to run"):
        table.main([], update=False)


def test_one_scenario_of_each_outcome_that_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third, fourth, fifth = table.choose(["MoE"])[:5]
    right, refused = {"outcome": "exact", "cause": ""}, {"outcome": "refused", "cause": "LayoutError"}
    known = {
        first.name: {"upstream": right, "patched": right},
        second.name: {"upstream": right, "patched": right},
        third.name: {"upstream": right, "patched": refused},
    }
    (tmp_path / "9.8.json").write_text(json.dumps(known))
    monkeypatch.setattr(table, "KNOWN", tmp_path)
    monkeypatch.setattr(metadata, "version", lambda _: "9.8")
    assert table.each_outcome([first, second, third, fourth, fifth]) == [first, third, fourth, fifth]


def test_large_folder_and_long_module_are_problems() -> None:
    lines = {f"kit.room.module{number}": 250 for number in range(12)} | {"kit.__init__": 1}
    assert list(problems(lines)) == []
    assert list(problems(lines | {"kit.room.__init__": 1})) == ["kit.room has 13 modules, over 12: divide it"]
    assert list(problems(lines | {"kit.long": 251})) == [
        "kit.long has 251 lines, over 250: it has two subjects"
    ]
