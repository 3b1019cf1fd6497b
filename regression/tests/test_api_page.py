"""The page of the public names is their docstrings, and every public name has one."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import mtp_regression
from mtp_regression.maintenance.api_page import MODULES, page

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def test_page_is_made_of_the_docstrings() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_described(module: str) -> None:
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {module}\n")[2].partition("\n## ")[0]
    entries = dict(entry.split("\n", 1) for entry in text.split("\n### ")[1:])
    assert sorted(entries) == sorted(import_module(module).__all__)
    for name, said in entries.items():
        words = re.sub(r"```python.*?```", "", said, flags=re.DOTALL)
        assert re.sub(r"^Of type `\w+`\.", "", words.strip()).strip(), f"{name} has no docstring"


def test_every_public_name_of_the_suite_is_there() -> None:
    names = vars(mtp_regression)["__all__"]
    assert set(names) <= set(dir(mtp_regression))
    for name in names:
        assert getattr(mtp_regression, name) is vars(mtp_regression)[name], "found once"
