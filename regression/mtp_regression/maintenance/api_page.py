"""The page of the public names, from their docstrings.

python -m mtp_regression.maintenance api-page > docs/api.md
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from itertools import pairwise
from typing import Any

MODULES = (
    "mtp_fixtures",
    "mtp_fixtures.plugin",
    "mtp_checkpoint",
    "mtp_bridge_patch",
    "mtp_regression",
    "mtp_regression.plugin",
    "mtp_regression.mutants",
)
"""Modules whose `__all__` is public, in the order of the page."""

_WIDTH = 100
_HEAD = """# Python

What may be imported from the packages. Everything else is private: it may change with any release. Names are
imported when they are first used; `mtp_checkpoint`, `mtp_fixtures` and `mtp_bridge_patch` need no torch.
"""
_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")
_ITEM = re.compile(r"    (\*{0,2}[\w., ]+): (.*)")


def page() -> str:
    """Return the page as Markdown."""
    lines = [_HEAD]
    seen: dict[int, str] = {}
    for module_name in MODULES:
        module = import_module(module_name)
        lines += [f"## {module_name}", "", *_text(inspect.getdoc(module) or ""), ""]
        for name in module.__all__:
            value = getattr(module, name)
            lines.append(f"### {name}\n")
            known = seen.setdefault(id(value), f"{module_name}.{name}")
            lines += _entry(name, value) if known == f"{module_name}.{name}" else [f"`{known}`."]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _entry(name: str, value: object) -> Iterator[str]:
    if not inspect.isclass(value) and not inspect.isfunction(value):
        yield f"Of type `{type(value).__name__}`. {_comment(name, value)}"
        return
    signature = _signature(name, value)
    if signature:
        yield from ("```python", signature, "```", "")
    yield from _text(inspect.getdoc(value) or "")
    if inspect.isclass(value):
        methods = [*_methods(value)]
        if methods:
            yield from ("", "Methods and properties:", "", *methods)


def _signature(name: str, value: Any) -> str:
    """Write a signature as it is called, a parameter a line where it is long; "" where it says nothing."""
    if inspect.isclass(value) and (issubclass(value, Enum | Exception) or hasattr(value, "_is_protocol")):
        return ""
    signature = _called(value)
    text = _plain(str(signature))
    if inspect.isclass(value):
        text = text.removesuffix(" -> None")
    if len(name + text) <= _WIDTH:
        return name + text
    words = [_plain(str(parameter)) for parameter in signature.parameters.values()]
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        words.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    return "\n".join((f"{name}(", *(f"    {word}," for word in words), f"){text.rpartition(')')[2]}"))


def _plain(text: str) -> str:
    """Write members of enumerations by name, and types without quotes."""
    text = re.sub(r"<(\w+\.\w+): [^>]+>", r"\1", text)
    text = re.sub(r"<function ([^<>]|<[^<>]*>)+>|<factory>", "...", text)
    return re.sub(r": '([^']+)'", r": \1", re.sub(r"-> '([^']+)'", r"-> \1", text))


def _methods(value: type) -> Iterator[str]:
    fields = inspect.get_annotations(value)
    for name, member in vars(value).items():
        if (name.startswith("_") and name != "__call__") or name in fields:
            continue
        if isinstance(member, classmethod | staticmethod):
            member = member.__func__
        doc = inspect.getdoc(getattr(member, "func", member)) or ""
        summary = doc.partition("\n\n")[0].replace("\n", " ")
        if inspect.isfunction(member) and summary:
            yield f"- `{_plain(name + str(_called(member)))}`: {summary}"
        elif summary and (isinstance(member, property) or hasattr(member, "func")):
            yield f"- `{name}`: {summary}"


def _called(function: Any) -> inspect.Signature:
    """Return a signature as the caller sees it."""
    signature = inspect.signature(function)
    shown = [found for name, found in signature.parameters.items() if name not in ("self", "cls", "_")]
    return signature.replace(parameters=shown)


def _text(doc: str) -> Iterator[str]:
    """Turn a docstring in Google style into Markdown: a list for each section."""
    section = ""
    for line in doc.splitlines():
        heading = _SECTION.fullmatch(line)
        if heading:
            section = heading[1]
            yield from (f"{section}:", "")
        elif section in ("Args", "Attributes", "Raises") and (item := _ITEM.fullmatch(line)):
            yield f"- `{item[1]}`: {item[2]}"
        elif section and line.startswith("    "):
            yield f"  {line.strip()}" if section in ("Args", "Attributes", "Raises") else line.strip()
        else:
            yield line


def _comment(name: str, value: object) -> str:
    """Return the string below the assignment of a constant, in whichever module of the kit has it."""
    for module_name in sorted(name for name in sys.modules if name.startswith("mtp_")):
        module = sys.modules[module_name]
        if vars(module).get(name) is not value:
            continue
        for statement, after in pairwise(ast.parse(inspect.getsource(module)).body):
            assigned = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
            if (
                isinstance(statement, ast.Assign | ast.AnnAssign)
                and name in assigned
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                return " ".join(str(after.value.value).split())
    return ""
