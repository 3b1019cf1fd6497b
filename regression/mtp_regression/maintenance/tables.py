"""The jobs that measure tables of a release, and print the pages of docs/ that are made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

Text = Annotated[
    list[str] | None,
    typer.Argument(help="Take what has every TEXT in its name.", show_default="all"),
]
Update = Annotated[bool, typer.Option("--update", help="Renew what is known of the release.")]


def _chosen(table: Any, text: list[str] | None, what: str) -> list[Any]:
    """Return the rows of a table's module that have every word in their names, at least one."""
    chosen: list[Any] = table.choose(text or ())
    if not chosen:
        raise typer.BadParameter(f"no {what} has {' and '.join(map(repr, text or ()))} in its name")
    return chosen


def _run(table: Any, text: list[str] | None, what: str, *, update: bool) -> NoReturn:
    """Run the rows of a table's module that have every word in their names, and exit."""
    raise typer.Exit(table.main(_chosen(table, text, what), update=update))


def cases(
    text: Text = None,
    each_outcome: Annotated[
        bool, typer.Option("--each-outcome", help="Of those with the same known outcome, take the first.")
    ] = False,
    update: Update = False,
) -> None:
    """Run every scenario on the installed release, as it is and patched, and compare with what is known."""
    from mtp_regression.maintenance.cases import table

    chosen = _chosen(table, text, "scenario")
    raise typer.Exit(table.main(table.each_outcome(chosen) if each_outcome else chosen, update=update))


def cases_page() -> None:
    """Print docs/cases.md, from what is known of each release."""
    from mtp_regression.maintenance.cases.page import page

    print(page(), end="")


def mutants_page() -> None:
    """Print docs/mutants.md, from what the suite and others' criteria see of each mutant."""
    from mtp_regression.maintenance.mutants_page import page
    from mtp_regression.mutants.run import results
    from mtp_regression.mutants.table import MUTANTS

    print(page(list(results([*MUTANTS.values()]))), end="")


def mutants_grid() -> None:
    """Renew what is known of which layouts of the main job see which mutant; print the default grid."""
    from mtp_regression.mutants import grid
    from mtp_regression.reporting.document import write_whole

    seen = grid.measure()
    write_whole(grid.DATA, json.dumps(seen, indent=1) + "\n")
    print(", ".join(map(str, grid.smallest(seen))))


def api_page() -> None:
    """Print docs/api.md, from the docstrings of what is public."""
    from mtp_regression.maintenance.api_page import page

    print(page(), end="")


def fields(text: Text = None, update: Update = False) -> None:
    """Change every field of config.json on the installed release, as it is and patched: the same logits?"""
    from mtp_regression.maintenance.fields import table

    _run(table, text, "row", update=update)


def kinds(update: Update = False) -> None:
    """Compare what kinds of batches, and context parallelism, give on the installed release."""
    from mtp_regression.maintenance.fields import kinds

    raise typer.Exit(kinds.main(update=update))


def config_page() -> None:
    """Print docs/config.md, from what is known of each release."""
    from mtp_regression.maintenance.fields.page import page

    print(page(), end="")


def folders(text: Text = None, update: Update = False) -> None:
    """Read every kind of folder with the installed release, as it is and patched, and with transformers."""
    from mtp_regression.maintenance.folders import table

    _run(table, text, "kind", update=update)


def folders_page() -> None:
    """Print docs/folders.md, from what is known of the newest release."""
    from mtp_regression.maintenance.folders.page import page

    print(page(), end="")


def board(
    reports: Annotated[
        list[Path], typer.Argument(help="What `mtpkit conformance --report` wrote.", exists=True)
    ],
    update: Update = False,
) -> None:
    """Compare what the suite found with releases of bridges with what is known of them."""
    from mtp_regression.maintenance.board.table import main

    raise typer.Exit(main(reports, update=update))


def board_page() -> None:
    """Print docs/board.md, from what is known of each release of each bridge."""
    from mtp_regression.maintenance.board.page import page

    print(page(), end="")


def findings(
    numbers: Annotated[list[int] | None, typer.Argument(help="Their numbers.", show_default="all")] = None,
    update: Annotated[bool, typer.Option("--update", help="Keep what the scripts print.")] = False,
) -> None:
    """Run the reproductions of findings on the installed release, as it is and with their patches."""
    from mtp_regression.findings.finding import read_findings
    from mtp_regression.maintenance.findings.run import main

    chosen = [finding for finding in read_findings() if not numbers or finding.number in numbers]
    if unknown := {*(numbers or ())} - {finding.number for finding in chosen}:
        raise typer.BadParameter(f"there is no finding {', '.join(map(str, sorted(unknown)))}")
    raise typer.Exit(main(chosen, update=update))


def findings_pages(
    folder: Annotated[Path, typer.Argument(help="Where they go.", exists=True)] = Path("docs"),
) -> None:
    """Write docs/findings.md and the page of every finding, from what is kept of them."""
    from mtp_regression.findings.finding import read_findings
    from mtp_regression.findings.page import index, page

    found = read_findings()
    pages = folder / "findings"
    pages.mkdir(exist_ok=True)
    for old in pages.glob("*.md"):
        old.unlink()
    (folder / "findings.md").write_text(index(found), encoding="utf-8")
    for finding in found:
        (pages / f"{finding.folder.name}.md").write_text(page(finding), encoding="utf-8")


def deferred() -> None:
    """Derive which packages the bridge imports and a conversion does not use, and compare with the list."""
    from mtp_regression.maintenance.deferred.derive import main

    raise typer.Exit(main())
