"""The command `mtpkit conformance`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mtp_regression.adapters import SHIPPED
from mtp_regression.commands.console import Json, refuse
from mtp_regression.commands.running import Html, Keep, may_not_run, run


def conformance(
    context: typer.Context,
    bridge: Annotated[
        str,
        typer.Argument(
            help="The adapter, as package.module:Class, also of the working folder, or one that ships: "
            f"{', '.join(SHIPPED)}."
        ),
    ],
    only: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of the checks to run, like 'packed-*::stream'.", show_default="all"),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the checks, and run none.")] = False,
    declared: Annotated[
        Path | None, typer.Option(help="A file of failures that are known: docs/your-bridge.md.")
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds a case may take.", show_default="300")
    ] = None,
    report_path: Annotated[Path, typer.Option("--report", help="Where the JSON report goes.")] = Path(
        "reports/conformance.json"
    ),
    html: Html = None,
    keep: Keep = False,
    as_json: Json = False,
) -> None:
    """Run the whole suite on a bridge of yours: every layout, scenario and fault that it can be asked for.

    Exits with 0 if every check passed or failed as declared, with 1 if not, and with 2 if it could not run.
    """
    from mtp_regression.conformance.suite import Conformance
    from mtp_regression.reporting.folding.fold import fold_reasons

    request = Conformance(
        adapter=bridge,
        only=only or [],
        time_limit=time_limit,
        report_path=report_path,
        keep=keep,
        declared_path=declared,
    )
    if not listed:
        run(request, as_json=as_json, html=html)
        return
    refuse(context, ["html"], "with --list, which runs no check")
    with may_not_run():
        checks, lacking = request.listed()
    print(*checks, sep="\n")
    for told in fold_reasons(lacking):
        print(f"not run: {told}", file=sys.stderr)
