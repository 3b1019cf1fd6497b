"""The page of the public names is their docstrings, and every public name has one."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import mtp_regression
from mtp_regression.maintenance.api_page import MODULES

PAGE = Path(__file__).parents[2] / "docs" / "api.md"

pytestmark = pytest.mark.xdist_group("api page")


NAMES = """
import mtp_regression
for name in mtp_regression.__all__:
    assert name in dir(mtp_regression)
    assert getattr(mtp_regression, name) is vars(mtp_regression)[name], "found once"
"""
COMMAND = """
import runpy, sys
sys.argv[1:] = ["api-page"]
runpy.run_module("mtp_regression.maintenance", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def python() -> subprocess.CompletedProcess[str]:
    """Look for the names, then print the page, apart from the tests: the names import Megatron-Core."""
    command = [sys.executable, "-c", NAMES + COMMAND]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_page_is_made_of_the_docstrings(python: subprocess.CompletedProcess[str]) -> None:
    assert PAGE.read_text(encoding="utf-8") == python.stdout


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_described(module: str) -> None:
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {module}\n")[2].partition("\n## ")[0]
    entries = dict(entry.split("\n", 1) for entry in text.split("\n### ")[1:])
    assert sorted(entries) == sorted(import_module(module).__all__)
    for name, said in entries.items():
        words = re.sub(r"```python.*?```", "", said, flags=re.DOTALL)
        assert re.sub(r"^Of type `\w+`\.", "", words.strip()).strip(), f"{name} has no docstring"


def test_every_public_name_of_the_suite_is_there(python: subprocess.CompletedProcess[str]) -> None:
    assert vars(mtp_regression)["__all__"]
    assert python.returncode == 0, python.stderr
