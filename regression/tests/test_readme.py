"""What README and docs show is what there is: commands run, snippets work, tables are complete."""

import fnmatch
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import typer
from read_noxfile import read_noxfile
from readme_jobs import run_snippet

from mtp_bridge_patch import FIXES
from mtp_fixtures import CheckpointSpec, ExpertLayout, preset
from mtp_regression.commands.app import app
from mtp_regression.comparison.verdicts import Verdict
from mtp_regression.maintenance.gpu_check.steps import STEPS
from mtp_regression.plugin import OnRanks

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
}
PLACEHOLDERS = {"...": "qwen3.6-35b-a3b out", "NAME": "half-packed", "RELEASE": "0.6.2"}


def blocks() -> list[str]:
    """README's indented blocks, without their indent; a blank line does not end a block."""
    found = re.findall(r"(?:(?: {4}.*)?\n)+", README)
    return [re.sub(r"^ {4}", "", text, flags=re.MULTILINE).strip("\n") for text in found if text.strip()]


def block(start: str) -> str:
    """The one block of README with a line that begins with a text, from there on."""
    (found,) = (text for text in blocks() if f"\n{start}" in f"\n{text}")
    return found[f"\n{found}".index(f"\n{start}") :]


def commands(program: str) -> list[list[str]]:
    """The commands in README's blocks that run a program, as lists of words."""
    lines = (line for text in blocks() for line in text.splitlines())
    return [shlex.split(line, comments=True) for line in lines if line.startswith(f"{program} ")]


def run(words: list[str], folder: Path) -> str:
    command = [str(Path(sys.executable).with_name(words[0])), *words[1:]]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_fixtures_in_pytest(pytester: pytest.Pytester) -> None:
    load = "def load(folder): assert (folder / 'config.json').exists()"
    pytester.makepyfile(f"{load}\n\n{block('def test_my_loader')}\n")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=3 + 1)


def test_commands_that_need_no_torch(tmp_path: Path) -> None:
    lines = [words for words in commands("mtpkit") if words[1] != "roundtrip"]
    assert {words[1] for words in lines} == {"presets", "generate", "verify"}
    for words in lines:
        run(words, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out2", "out3", "out4"}


@pytest.mark.megatron
def test_round_trip_of_a_checkpoint(tmp_path: Path, qwen36_checkpoint: Path) -> None:
    (words,) = (words for words in commands("mtpkit") if words[1] == "roundtrip")
    (tmp_path / "out").symlink_to(qwen36_checkpoint)
    assert '"passed": true' in run(words, tmp_path)


@pytest.mark.megatron
def test_round_trip_under_torchrun(tmp_path: Path) -> None:
    (words,) = (words for words in commands("torchrun") if "roundtrip" in words)
    run(words, tmp_path)
    assert '"passed": true' in (tmp_path / "reports" / "roundtrip.json").read_text()


def test_torchrun_takes_a_free_port() -> None:
    lines = [line for page in PAGES.values() for line in page.splitlines() if "torchrun --" in line]
    assert len(lines) >= 4
    assert all("torchrun --standalone " in line for line in lines), lines


def test_patch_of_a_script(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sys; print(sys.argv)")
    lines = [words for words in (*commands("python"), *commands("torchrun")) if "script.py" in words]
    assert [words[0] for words in lines] == ["python", "torchrun"]
    for words in lines:
        assert "'args...'" in run(words, tmp_path)


@pytest.mark.megatron
def test_patch_in_python(on_ranks: OnRanks, qwen36_checkpoint: Path) -> None:
    assert on_ranks(run_snippet, block("import mtp_bridge_patch"), str(qwen36_checkpoint)) == [[True, False]]


def test_fix_table() -> None:
    table = README.partition("| fix | the failure that it removes |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([\w-]+)`", row)]
    assert sorted(named) == sorted(fix.id for fix in FIXES)


def first_cells(page: str, heading: str) -> list[str]:
    """The code in the first column of the table below a heading of a page."""
    table = PAGES[page].partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)


def test_tables_of_verdicts_layouts_and_steps() -> None:
    assert first_cells("report.md", "Verdicts") == list(Verdict)
    assert first_cells("fixtures.md", "Layouts") == list(ExpertLayout)
    assert first_cells("gpu.md", "A check for a GPU that is lent for minutes") == list(STEPS)


def test_table_of_the_two_families() -> None:
    rows = re.findall(r"^\| (MTP experts|`linear_attn.*`) \| (.*) \| (.*) \|$", README, re.MULTILINE)
    (_, single, packed), (_, *dtypes) = rows
    for name, experts, dtype in zip(("qwen3.5", "qwen3.6"), (single, packed), dtypes, strict=True):
        tensors = {tensor.name: tensor for tensor in CheckpointSpec(preset(f"{name}-35b-a3b")).tensors}
        names = [text.replace("...", "mtp.layers.0.mlp.") for text in re.findall("`([^`]+)`", experts)]
        parts = [name.replace("{gate,up,down}", part) for name in names for part in ("gate", "up", "down")]
        stored = {name for name in tensors if name.startswith("mtp.layers.0.mlp.experts.")}
        assert {re.sub(r"experts\.\d+\.", "experts.{e}.", name) for name in stored} == set(parts)
        for part in ("A_log", "norm.weight"):
            assert tensors[f"model.language_model.layers.0.linear_attn.{part}"].dtype == dtype


def sessions() -> set[str]:
    """The sessions of noxfile.py, read without nox."""
    found = set()

    def session(function: Any = None, *, name: str | None = None, **_options: object) -> Any:
        if function is None:
            return lambda of: session(of, name=name)
        found.add(name or function.__name__)
        return function

    nox = mock.MagicMock()
    nox.session = session
    nox.parametrize = lambda *_args, **_options: lambda function: function
    nox.project.python_versions.return_value = ["3.11", "3.12"]
    read_noxfile(nox)
    return found


def test_every_session_is_in_the_table() -> None:
    table = README.partition("## Other sessions")[2].partition("\n## ")[0]
    _, *rows = re.findall(r"^\| `.*? \|", table, re.MULTILINE)
    patterns = [pattern for row in rows for pattern in re.findall(r"`(.+?)`", row)]
    own_section = {"tests", "roundtrip"}
    matched = [set(fnmatch.filter(sessions(), pattern)) for pattern in patterns]
    assert all(matched)
    assert set.union(own_section, *matched) == sessions()


@pytest.mark.parametrize("name", PAGES)
def test_every_session_that_a_page_names_is_there(name: str) -> None:
    asked = re.findall(r"(?:nox|noxfile\.py) -s ([a-z]\w*(?:-[\d.]+\b)?)", PAGES[name])
    assert set(asked) <= sessions()


def shown() -> Iterator[tuple[str, str]]:
    """Every command line of mtpkit in a page: in a block, or between backticks."""
    for name, text in PAGES.items():
        for line in re.findall(r"(?:^ *|`|; )(mtpkit [^`\n;]*)", text, re.MULTILINE):
            yield name, line


@pytest.mark.parametrize(("name", "line"), [*shown()])
def test_every_command_line_can_be_read(name: str, line: str) -> None:
    """Its options are there and take such values; a command's bare name stands for it."""
    del name
    shown_words = shlex.split(line, comments=True)[1:]
    words = [part for word in shown_words for part in PLACEHOLDERS.get(word, word).split(" ")]
    command: Any = typer.main.get_command(app)
    if words != ["--help"]:
        known = command.commands[words[0]]
        if words[1:]:
            known.make_context(words[0], words[1:])
