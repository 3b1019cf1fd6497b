"""`mtpkit`: the kit's command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import typer
from typer.core import TyperGroup

from mtp_regression.commands import (
    checkpoint,
    conformance,
    coverage,
    doctor,
    listings,
    mutants,
    patch,
    roundtrip,
)
from mtp_regression.commands.results.diff import diff
from mtp_regression.commands.results.report import report

_ROOMS: Mapping[str, tuple[Callable[..., None], ...]] = {
    "Checkpoints": (
        listings.presets,
        checkpoint.generate,
        checkpoint.verify,
        checkpoint.inspect,
        listings.faults,
    ),
    "Any bridge": (conformance.conformance, roundtrip.roundtrip, listings.scenarios, mutants.mutants),
    "What came of it": (report, diff),
    "Megatron-Bridge": (patch.patch, coverage.coverage, doctor.doctor, doctor.server, listings.finding),
}
"""The commands, by what they are about."""


class _Grouped(TyperGroup):
    """Lists the commands by what they are about."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group."""
        del ctx
        for title, functions in _ROOMS.items():
            names = [function.__name__ for function in functions]
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(90)) for name in names])


app = typer.Typer(
    cls=_Grouped,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def mtpkit() -> None:
    """Fixtures and a regression suite for bridges that carry MTP experts."""


for _functions in _ROOMS.values():
    for _command in _functions:
        app.command()(_command)


def main() -> None:
    """Run the command."""
    app()
