"""The command `mtpkit report`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mtp_regression.commands.console import fail
from mtp_regression.commands.running import Html, write_html


class Format(StrEnum):
    """How results are printed.

    Attributes:
        TEXT: As a run prints them.
        MARKDOWN: To paste into an issue or a pull request.
    """

    TEXT = "text"
    MARKDOWN = "markdown"


As = Annotated[Format, typer.Option("--format", help="As a run prints it, or to paste into an issue.")]


def report(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Reports: JSON of a run.")],
    output: As = Format.TEXT,
    html: Html = None,
) -> None:
    """Print reports as their runs did; torch is not needed.

    Exits with 0 if all of them passed, with 1 if one did not, and with 2 if one is no report.
    """
    from rich.console import Console

    from mtp_regression.reporting.document import read_report, records_of
    from mtp_regression.reporting.markdown import issue
    from mtp_regression.reporting.terminal import show

    try:
        reports = [read_report(file) for file in files]
        read = [(records_of(document), document) for document in reports]
    except ValueError as error:
        fail(str(error))
    for number, (records, document) in enumerate(read):
        if output is Format.MARKDOWN:
            print(issue(records, document))
        else:
            print(*[""] * (number > 0), sep="\n", end="")
            show(Console(), records, document)
    write_html(reports, html, files)
    raise typer.Exit(0 if all(document["passed"] for document in reports) else 1)
