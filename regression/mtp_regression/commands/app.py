"""`mtpkit`: the kit's command."""

from __future__ import annotations

import typer

from mtp_regression.commands import checkpoint, conformance, coverage, doctor, listings, patch, roundtrip

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
)


@app.callback()
def mtpkit() -> None:
    """Fixtures and a regression suite for bridges that carry MTP experts."""


for _command in (
    listings.presets,
    checkpoint.generate,
    checkpoint.verify,
    checkpoint.inspect,
    listings.faults,
    coverage.coverage,
    patch.patch,
    roundtrip.roundtrip,
    conformance.conformance,
    doctor.doctor,
):
    app.command()(_command)


def main() -> None:
    """Run the command."""
    app()
