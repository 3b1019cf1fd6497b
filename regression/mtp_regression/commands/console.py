"""What the commands have in common: the option --json, errors, progress and tables.

rich is imported where it is used: it takes longer than making a tiny checkpoint.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from mtp_regression.ranks.parallel import Parallel, Resharding, read_layout

if TYPE_CHECKING:
    from rich.table import Table

ENVIRONMENT = "install the environment of a bridge, as CONTRIBUTING.md shows"

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else.")]


def fail(message: str) -> NoReturn:
    """Print why a command could not run, and exit with 2."""
    from rich.console import Console

    console = Console(stderr=True)
    console.print(f"mtpkit: {message}", style="bold red", highlight=False, soft_wrap=True, markup=False)
    raise typer.Exit(2) from None


def read_parallel(text: str, option: str = "--parallel") -> Parallel:
    """Read a parallel layout of the command line; another text is an error of it, with exit code 2."""
    layout = read_layouts(text, option)
    if isinstance(layout, Resharding):
        raise typer.BadParameter(f"one layout, not two: {text!r}", param_hint=option)
    return layout


def read_layouts(text: str, option: str = "--parallel") -> Parallel | Resharding:
    """Read a parallel layout, or two for a Megatron checkpoint; see `read_parallel`."""
    try:
        return read_layout(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def check_names(given: Iterable[str] | None, known: Iterable[str], hint: str) -> None:
    """Refuse names that are unknown.

    Args:
        given: What was given; None if nothing was.
        known: What there is.
        hint: The option or argument, for the message.

    Raises:
        typer.BadParameter: One is not known; the message says which are.
    """
    names = [*known]
    for name in given or ():
        if name not in names:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(names)}", param_hint=hint)


def refuse(context: typer.Context, names: Iterable[str], why: str) -> None:
    """End with exit code 2 if one of some options was given: it would be ignored.

    Args:
        context: That of the command.
        names: Names of the command's parameters.
        why: Ends a sentence that begins with "has no effect".
    """
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name in names and source is not None and source.name == "COMMANDLINE":
            given = next((text for text in parameter.opts if text.startswith("--")), name.upper())
            raise typer.BadParameter(f"has no effect {why}", param_hint=given)


@contextmanager
def working_folder_importable() -> Iterator[None]:
    """Find modules in the working folder first, as `python -m` does and a console script does not."""
    folder = str(Path.cwd())
    if sys.flags.safe_path or not {folder, ""}.isdisjoint(sys.path):
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


_SHOWN_FROM = 500_000_000  # bytes; less is written before a bar could be read


@contextmanager
def progress_bar(size: int) -> Iterator[Callable[[int], None] | None]:
    """Show a bar with an estimate while a large checkpoint is written or read."""
    if size < _SHOWN_FROM:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=size)
        yield lambda count: progress.advance(task, count)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the command as an exception does, so that nothing half-written stays."""

    def end(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def print_table(table: Table) -> None:
    """Print a table on standard output."""
    from rich.console import Console

    Console().print(table, highlight=False, markup=False)
