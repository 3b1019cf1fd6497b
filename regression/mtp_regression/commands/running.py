"""What the commands that run a bridge have in common: an option, and how they end."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtp_regression.commands.console import ENVIRONMENT, fail, working_folder_importable

if TYPE_CHECKING:
    from mtp_regression.roundtrip.request import Request

_PACKAGE_ABSENT = re.compile(
    r"ModuleNotFoundError: (No module named '(?:torch|transformers|megatron(?:\.core|\.bridge)?)')$"
)

Keep = Annotated[bool, typer.Option("--keep", help="Keep what the bridge saves, in kept/ beside the report.")]

Html = Annotated[
    Path | None,
    typer.Option("--html", dir_okay=False, writable=True, help="Also write the report as a page to look at."),
]


@contextmanager
def may_not_run() -> Iterator[None]:
    """Find adapters in the working folder too; end with exit code 2 and why, if a run cannot take place.

    Where packages of a bridge are missing it says what to do.
    """
    from mtp_regression.roundtrip.request import CannotRunError

    try:
        with working_folder_importable():
            yield
    except CannotRunError as error:
        told = str(error)
        if absent := _PACKAGE_ABSENT.search(told):  # where it is imported does not matter
            told = f"{told.splitlines()[0]}{absent[1]}; {ENVIRONMENT}"
        fail(told)


def run(request: Request, *, as_json: bool, html: Path | None) -> None:
    """Run what a command is asked for, print what became of it; exit with 0 if all passed, else with 1.

    Args:
        request: What it is asked for.
        as_json: Whether to print the report on standard output.
        html: Where the report goes as a page; None writes none.
    """
    from rich.console import Console

    from mtp_regression.reporting.document import records_of
    from mtp_regression.reporting.github import announce
    from mtp_regression.roundtrip.run import round_trips

    with may_not_run():
        report = round_trips(request, Console(stderr=as_json))
    if report is None:  # a rank that torchrun or Slurm started, and not the first
        return
    announce(records_of(report), report, os.environ, sys.stderr if as_json else sys.stdout)
    write_html([report], html, [request.report_path])
    if as_json:
        print(json.dumps(report))
    raise typer.Exit(0 if report["passed"] else 1)


def write_html(reports: Sequence[Mapping[str, Any]], html: Path | None, files: Sequence[Path]) -> None:
    """Write a page of reports, if one is asked for.

    Args:
        reports: The reports.
        html: Where it goes; None writes none.
        files: The file of each report, which has the ranks' logs beside it.
    """
    if html is None:
        return
    from mtp_regression.page.write import write_page

    try:
        write_page(reports, html, folders=[file.parent for file in files])
    except OSError as error:
        fail(f"{files[0]} is there, but its page cannot be written: {error}")
