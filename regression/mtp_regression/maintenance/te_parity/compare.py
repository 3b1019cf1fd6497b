"""Compares what `dump` has listed under each engine, and prints the table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mtp_regression.maintenance.te_parity.dump import ATTRIBUTES, REAL, STAND_IN, Parameter

_SHOWN = 5


@dataclass
class Cell:
    """One case, compared.

    Attributes:
        preset: The model.
        parallel: The parallel layout.
        ranks: Number of ranks.
        parameters: Number of parameters compared, over all ranks.
        differences: What is not equal; empty is a pass.
    """

    preset: str
    parallel: str
    ranks: int = 0
    parameters: int = 0
    differences: list[str] = field(default_factory=list)


def compare(stand_in: dict[str, Any], real: dict[str, Any]) -> list[Cell]:
    """Compare what `dump` has listed under each engine.

    The order of a rank's parameters is not compared: a bridge takes them by name.

    Returns:
        A cell for each case that either has.
    """
    dumps = (stand_in, real)
    sides = [{(case["preset"], case["parallel"]): case for case in listed["cases"]} for listed in dumps]
    cells = []
    for key in sides[0] | sides[1]:
        cell = Cell(*key)
        cells.append(cell)
        cases = [side.get(key, {"error": "no such case"}) for side in sides]
        for engine, case in zip((STAND_IN, REAL), cases, strict=True):
            if "error" in case:
                cell.differences.append(f"{engine}: {case['error']}")
            elif (case["engine"] == "TransformerEngine stand-in") != (engine == STAND_IN):
                cell.differences.append(f"{engine}: the modules came from {case['engine']}")
        if cell.differences:
            continue
        pairs = list(zip_longest(*(case["ranks"] for case in cases), fillvalue=[]))
        cell.ranks = len(pairs)
        for rank, (left, right) in enumerate(pairs):
            cell.parameters += len({parameter["name"] for parameter in (*left, *right)})
            cell.differences += (f"rank {rank}: {found}" for found in differences(left, right))
        if not cell.parameters:
            cell.differences.append("no parameters at all")
    return cells


def differences(stand_in: Sequence[Parameter], real: Sequence[Parameter]) -> Iterator[str]:
    """Yield, by name, what differs between the parameters of one rank under the two engines."""
    sides = [{parameter["name"]: parameter for parameter in side} for side in (stand_in, real)]
    for engine, listed, side in zip((STAND_IN, REAL), (stand_in, real), sides, strict=True):
        if len(listed) != len(side):
            yield f"{engine} lists {len(listed) - len(side)} parameters twice"
    for name in sides[0] | sides[1]:
        left, right = (side.get(name) for side in sides)
        if left is None or right is None:
            yield f"{name}: only in {STAND_IN if right is None else REAL}"
            continue
        for what in ("shape", "dtype", *ATTRIBUTES):
            # As JSON: true is not 1, and null is not the same as an attribute that is not there.
            here, there = (json.dumps(side[what]) if what in side else "absent" for side in (left, right))
            if here != there:
                yield f"{name}: {what} is {here} in {STAND_IN}, {there} in {REAL}"


def show(console: Console, cells: Sequence[Cell], title: str) -> None:
    """Print the table, a row a cell, then the first differences of each cell."""
    table = Table(title=title)
    for column in ("preset", "parallel layout", "ranks", "parameters", "differences"):
        table.add_column(column, justify="left" if column.startswith(("preset", "parallel")) else "right")
    told = ""
    for cell in cells:
        found = Text(str(len(cell.differences)), style="bold red" if cell.differences else "green")
        if told and told != cell.preset:
            table.add_section()
        table.add_row(
            cell.preset if told != cell.preset else "",
            *(cell.parallel, str(cell.ranks), str(cell.parameters), found),
        )
        told = cell.preset
    console.print(table)
    for cell in cells:
        for line in cell.differences[:_SHOWN]:
            console.print(f"{cell.preset}, {cell.parallel}: {line}", soft_wrap=True, markup=False)
        if len(cell.differences) > _SHOWN:
            console.print(f"  ... {len(cell.differences)} in all")
    differing = sum(bool(cell.differences) for cell in cells)
    console.print(
        f"{len(cells)} cells, {sum(cell.parameters for cell in cells)} parameters compared: "
        + (f"{differing} cells differ" if differing else "all equal")
    )
