"""The command `mtpkit diff`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtp_regression.commands.console import fail, progress_bar
from mtp_regression.commands.results.report import As, Format


def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="The earlier report, or a checkpoint's folder.")],
    second: Annotated[
        Path, typer.Argument(metavar="B", help="The later report, or a folder to compare with A.")
    ],
    output: As = Format.TEXT,
) -> None:
    """Hold two reports, or two checkpoints of anybody, against each other; torch is not needed.

    Exits with 0 if nothing got worse, or the folders are equal; with 1 if not; with 2 if one cannot be read.
    """
    if first.is_dir() != second.is_dir():
        raise typer.BadParameter("two reports or two folders, not one of each", param_hint="A B")
    raise typer.Exit(_folders(first, second, output) if first.is_dir() else _reports(first, second, output))


def _reports(first: Path, second: Path, output: Format) -> int:
    """Print what got better and worse; returns 1 if something got worse."""
    from rich.console import Console

    from mtp_regression.reporting.changes import changes_as_markdown, show_changes
    from mtp_regression.reporting.differences import Change, differences
    from mtp_regression.reporting.document import read_report, records_of

    try:
        earlier, later = (records_of(read_report(file)) for file in (first, second))
    except ValueError as error:
        fail(str(error))
    found = differences(later, earlier)
    if output is Format.MARKDOWN:
        print(changes_as_markdown(found, earlier, later))
    else:
        show_changes(Console(), found, earlier, later)
    return 1 if any(one.change is Change.WORSE for one in found) else 0


def _folders(first: Path, second: Path, output: Format) -> int:
    """Print what differs in two checkpoints; returns 1 if something does."""
    from mtp_checkpoint.errors import CheckpointError
    from mtp_regression.comparison.folders import compare_folders
    from mtp_regression.reporting.changes import folders_as_markdown, folders_as_text

    try:
        size = sum(path.stat().st_size for path in second.glob("*.safetensors"))
        with progress_bar(size) as advance:
            compared = compare_folders(first, second, progress=advance)
    except (CheckpointError, OSError) as error:
        fail(str(error))
    lines = folders_as_markdown if output is Format.MARKDOWN else folders_as_text
    print(*lines(compared, first.name or str(first), second.name or str(second)), sep="\n")
    return 1 if compared.findings else 0
