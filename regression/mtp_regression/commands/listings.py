"""The commands of `mtpkit` that list what there is; torch is not needed."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtp_fixtures import PRESETS, CheckpointSpec
from mtp_regression.commands.console import Json, fail, print_table

if TYPE_CHECKING:
    from mtp_fixtures.faults.fault import Fault


def presets(as_json: Json = False) -> None:
    """List the published models that checkpoints are shaped like."""
    from mtp_fixtures.totals import totals

    rows: list[dict[str, Any]] = [
        {
            "preset": name,
            "family": preset.family.name,
            "decoder experts": str(preset.decoder_experts) if preset.is_moe else None,
            "MTP experts": str(preset.mtp_experts) if preset.is_moe else None,
            **vars(totals(preset)),
            "tiny": sum(tensor.byte_count for tensor in CheckpointSpec(preset).tensors),
            "uncertain": list(preset.uncertain),
        }
        for name, preset in PRESETS.items()
    ]
    if as_json:
        print(json.dumps(rows))
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in ("preset", "family", "decoder, MTP"):
        table.add_column(column, no_wrap=True)
    for column in ("params", "tensors", "GB"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        layouts = dict.fromkeys((row["decoder experts"], row["MTP experts"]))
        table.add_row(
            row["preset"],
            row["family"],
            ", ".join(layout or "dense" for layout in layouts),
            f"{row['parameters'] / 1e9:.1f} B",
            f"{row['tensors']:,}",
            f"{row['size'] / 1e9:.1f}",
        )
    print_table(table)


def faults(as_json: Json = False) -> None:
    """List the faults and kinds of folders that a checkpoint can have, and what a loader should say."""
    from mtp_fixtures.faults.table import FAULTS, FOLDERS

    if as_json:
        print(json.dumps([fault_fields(fault) for fault in (*FAULTS.values(), *FOLDERS.values())]))
        return
    from rich.table import Table

    for option, kinds in (("--fault", FAULTS), ("--folder", FOLDERS)):
        table = Table(show_lines=True)
        for column in (option, "what it is", "what a loader should say"):
            table.add_column(column, no_wrap=column == option)
        for name, kind in kinds.items():
            table.add_row(name, kind.description, kind.expected)
        print_table(table)


def scenarios(as_json: Json = False) -> None:
    """List what a bridge is checked with: checkpoints, and the layouts, stages and uses of each."""
    from mtp_regression.conformance.subjects import subjects

    rows: list[dict[str, Any]] = [
        {
            "name": subject.name,
            "what": subject.about,
            "layouts": [str(layout) for layout in subject.layouts],
            "stages": [str(stage) for stage in subject.stages],
            "use": subject.use,
        }
        for subject in subjects()
        if not subject.broken
    ]
    if as_json:
        print(json.dumps(rows))
        return
    from rich.table import Table

    table = Table(show_edge=False)
    for column in ("name", "layouts", "stages", "use"):
        table.add_column(column, overflow="fold")
    for row in rows:
        layouts, stages = (", ".join(row[key]) or "all" for key in ("layouts", "stages"))
        table.add_row(row["name"], layouts, stages, "" if row["use"] == "plain" else row["use"])
    print_table(table)


def finding(
    number: Annotated[
        int | None, typer.Argument(help="Its number.", show_default="lists them", metavar="[NUMBER]")
    ] = None,
) -> None:
    """Print what a release does wrong, ready to be sent: command, cause, script, patch."""
    from mtp_regression.findings.finding import read_findings
    from mtp_regression.findings.page import page

    found = {one.number: one for one in read_findings()}
    listed = "\n".join(f"{one.number:3} {one.title}" for one in found.values())
    if number is None:
        print(listed)
    elif number not in found:
        fail(f"there is no finding {number}; these are:\n{listed}")
    elif sys.stdout.isatty():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(page(found[number])))
    else:
        print(page(found[number]), end="")


def fault_fields(fault: Fault) -> dict[str, str]:
    """Return what a listing in JSON has of a fault, or of a kind of folder."""
    from mtp_fixtures.faults.table import FOLDERS

    kind = "folder" if fault.name in FOLDERS else "fault"
    return {kind: fault.name, "what": fault.description, "expected": fault.expected}
