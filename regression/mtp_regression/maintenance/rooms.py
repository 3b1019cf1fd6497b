"""The rooms of the packages: how many modules each has, and what it imports from the others.

`pyproject.toml` says which imports are allowed, and `lint-imports` fails on others; this shows what there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("mtp_checkpoint", "mtp_fixtures", "mtp_bridge_patch", "mtp_regression")
MOST_MODULES = 12
"""Of a folder."""
MOST_LINES = 250
"""Of a module."""


def main() -> int:
    """Print the rooms of all packages, then what is too large; returns 1 if something is."""
    lines = {name: count for package in PACKAGES for name, count in _lines(package)}
    imports = _imports()
    for room, modules in _rooms(lines).items():
        longest = max(lines[module] for module in modules)
        print(
            f"{room}: {len(modules)} modules, {sum(lines[name] for name in modules)} lines, {longest} at most"
        )
        for other, count in sorted(imports.get(room, {}).items()):
            print(f"    {count} from {other}")
    found = list(problems(lines))
    for problem in found:
        print(problem)
    return 1 if found else 0


def problems(lines: Mapping[str, int]) -> Iterator[str]:
    """Say which folders have too many modules, and which modules too many lines.

    Args:
        lines: The number of lines of each module, by its name; a package's own is `PACKAGE.__init__`.
    """
    for room, modules in _rooms(lines).items():
        if len(modules) > MOST_MODULES:
            yield f"{room} has {len(modules)} modules, over {MOST_MODULES}: divide it"
    for name, count in lines.items():
        if count > MOST_LINES:
            yield f"{name} has {count} lines, over {MOST_LINES}: it has two subjects"


def _rooms(lines: Mapping[str, int]) -> dict[str, list[str]]:
    rooms: dict[str, list[str]] = {}
    for name in sorted(lines):
        rooms.setdefault(name.rpartition(".")[0], []).append(name)
    return rooms


def _lines(package: str) -> Iterator[tuple[str, int]]:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    for path in root.rglob("*.py"):
        name = ".".join((package, *path.relative_to(root).with_suffix("").parts))
        yield name, len(path.read_text(encoding="utf-8").splitlines())


def _imports() -> dict[str, Counter[str]]:
    """Count the imports between rooms, those for type checkers too: importing room, then imported room."""
    import grimp  # in the environment of `nox -s lint` alone

    graph = grimp.build_graph(*PACKAGES, cache_dir=None)

    def room(module: str) -> str:
        return module if graph.find_children(module) else module.rpartition(".")[0]

    counts: dict[str, Counter[str]] = {}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            if room(module) != room(imported):
                counts.setdefault(room(module), Counter())[room(imported)] += 1
    return counts
