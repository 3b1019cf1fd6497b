"""docs/your-bridge.md, done as it says, in an empty folder: files written, commands run, output compared."""

import doctest
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "your-bridge.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
NO_TORCH = "import sys; sys.modules['torch'] = None"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def runs() -> Iterator[tuple[str, str]]:
    """Every command, and what the page shows of its output."""
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def needs_megatron(command: str) -> bool:
    return "their_bridge" in command or command.startswith("torchrun")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the page's files, whose names are their first lines."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for block in (*blocks("python"), *blocks("toml")):
        (folder / block.partition("\n")[0].removeprefix("# ")).write_text(block, encoding="utf-8")
    return folder


def run(command: str, folder: Path, first: Path | None = None) -> str:
    """Run a command of the page in a folder, with another one first on the path of modules."""
    program, *words = shlex.split(command)
    path = os.pathsep.join(filter(None, [str(first or ""), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "COLUMNS": "110", "PYTHONPATH": path}
    environment.pop("FORCE_COLOR", None)
    done = subprocess.run(
        [str(Path(sys.executable).with_name(program)), *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def without_times(text: str) -> str:
    return re.sub(r"\d+\.\d+ ?s\b", "0 s", text)


def assert_shown(command: str, shown: str, folder: Path, first: Path | None = None) -> None:
    """The output is what the page shows: `...` stands for anything, and any time for another."""
    printed = run(command, folder, first)
    assert doctest.OutputChecker().check_output(without_times(shown), without_times(printed), FLAGS), printed


@pytest.mark.parametrize(
    ("command", "shown"), [pytest.param(*run, id=run[0]) for run in runs() if not needs_megatron(run[0])]
)
def test_with_numpy_alone(command: str, shown: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(NO_TORCH)
    assert_shown(command, shown, folder, tmp_path / "first")


@pytest.mark.megatron
@pytest.mark.parametrize(
    ("command", "shown"), [pytest.param(*run, id=run[0]) for run in runs() if needs_megatron(run[0])]
)
def test_with_ranks(command: str, shown: str, folder: Path) -> None:
    assert_shown(command, shown, folder)


def test_the_page_is_short() -> None:
    text = re.sub(r"^```\w+\n.*?^```\n", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(text.splitlines()) <= 150


def test_snippet_of_the_readme(tmp_path: Path) -> None:
    section = README.partition("## Your bridge\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"(?:(?: {4}.*)?\n)+(?=`mtpkit)", section)
    (tmp_path / "my_bridge.py").write_text(re.sub("^ {4}", "", block, flags=re.MULTILINE))
    (tmp_path / "my_converter.py").write_text("load = save = dict\n")
    command = "mtpkit conformance my_bridge:MyBridge --only packed-tp1::stream"
    assert_shown(command, "packed, tp1: exact, 0.1 s\n...", tmp_path)


def test_adapters_are_short() -> None:
    for name, limit in {"my_bridge.py": 15, "their_bridge.py": 25}.items():
        (block,) = (block for block in blocks("python") if block.startswith(f"# {name}\n"))
        assert len([line for line in block.splitlines()[1:] if line.strip()]) <= limit
