"""The maintainers' jobs as one command; `noxfile.py` runs them.

    python -m mtp_regression.maintenance JOB

Each exits with 0 if all is as it should be, with 1 if not, and with 2 if it could not run as it was asked to.
Jobs are imported when they run: most of them import torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtp_regression.commands.console import check_names, read_parallel, refuse
from mtp_regression.maintenance import tables

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
)


for table in (
    tables.cases,
    tables.cases_page,
    tables.fields,
    tables.kinds,
    tables.config_page,
    tables.folders,
    tables.folders_page,
    tables.board,
    tables.board_page,
    tables.findings,
    tables.findings_pages,
    tables.api_page,
    tables.mutants_page,
    tables.mutants_grid,
    tables.deferred,
):
    app.command()(table)


@app.callback()
def maintenance() -> None:
    """Jobs of those who maintain the kit."""


@app.command()
def known_bad(
    report: Annotated[Path, typer.Argument(help="What `mtpkit roundtrip --report` wrote.", exists=True)],
) -> None:
    """Check that a release which is known to fail packed MTP experts failed as it should."""
    from mtp_regression.maintenance.known_bad import main

    raise typer.Exit(main(report))


@app.command()
def patched_grid(
    folder: Annotated[Path, typer.Argument(help="Where a report of each part goes.")] = Path("reports"),
) -> None:
    """Take what the patch adds through the whole grid of parallel layouts."""
    from mtp_regression.maintenance.cases.patched_grid import main

    raise typer.Exit(main(folder))


@app.command()
def forward(
    update: Annotated[bool, typer.Option("--update", help="Renew what is known of fields.")] = False,
) -> None:
    """Compare logits with transformers': of right and wrong models, all layouts, batches and fields."""
    from mtp_regression.maintenance.fields import kinds, table
    from mtp_regression.maintenance.forward.run import main

    codes = main(), kinds.main(update=update), table.main(table.choose(()), update=update)
    raise typer.Exit(max(codes))


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where page and figure go.", exists=True)] = Path("docs"),
) -> None:
    """Measure what unloaded MTP experts do to training, and make docs/training.md and its figure."""
    from mtp_regression.maintenance.demo.run import main

    raise typer.Exit(main(folder))


@app.command()
def coverage_limits() -> None:
    """Run `mtpkit coverage` over the published dimensions, within limits of time and memory."""
    from mtp_regression.maintenance.coverage_limits import main

    raise typer.Exit(main())


@app.command()
def te_parity(
    preset: Annotated[
        list[str] | None, typer.Option(help="A BF16 preset; may be repeated.", show_default="all")
    ] = None,
    parallel: Annotated[
        list[str] | None,
        typer.Option(help="A parallel layout, like 'tp2 ep2'; may be repeated.", show_default="a grid"),
    ] = None,
    folder: Annotated[Path, typer.Option(help="For lists and logs.")] = Path("reports/te_parity"),
) -> None:
    """Show that the stand-in for TransformerEngine has the real one's parameters, rank by rank."""
    from mtp_regression.maintenance.te_parity import run
    from mtp_regression.maintenance.te_parity.dump import presets
    from mtp_regression.ranks.parallel import GRID

    names = [model.name for model in presets()]
    check_names(preset, names, "--preset")
    grid = [read_parallel(text) for text in parallel or ()]
    raise typer.Exit(run.main(preset or names, grid or GRID, folder))


@app.command(hidden=True)
def te_parity_dump(
    engine: str,
    folder: Path,
    preset: Annotated[list[str], typer.Option()],
    parallel: Annotated[list[str], typer.Option()],
) -> None:
    """List the parameters of every case under one engine; `te-parity` runs this for each."""
    from mtp_regression.maintenance.te_parity.dump import dump

    dump(engine, preset, [read_parallel(text) for text in parallel], folder)


@app.command()
def bench(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Where page and figures go.", exists=True)] = Path("docs"),
    only: Annotated[
        list[str] | None, typer.Option(help="pairs, growth or memory; may be repeated.", show_default="all")
    ] = None,
    drawn: Annotated[
        bool, typer.Option("--drawn", help="Measure nothing: the page of what is kept.")
    ] = False,
    scratch: Annotated[
        Path | None, typer.Option(help="Where 15 GB are free.", show_default="the system's", exists=True)
    ] = None,
) -> None:
    """Measure what the kit costs, and make docs/benchmarks.md; 1 if a ratio, slope or bound is missed."""
    from mtp_regression.maintenance.bench.run import PARTS, main

    if drawn:
        refuse(context, ["only", "scratch"], "with --drawn, which measures nothing")
    check_names(only, PARTS, "--only")
    raise typer.Exit(main(folder, [] if drawn else only or list(PARTS), scratch))


@app.command()
def fuzz(
    context: typer.Context,
    readers: Annotated[
        list[str] | None, typer.Argument(metavar="READER", help="Readers to fuzz.", show_default="all")
    ] = None,
    seconds: Annotated[int, typer.Option(min=1, help="Seconds for each reader.")] = 60,
    jobs: Annotated[int, typer.Option(min=1, help="Readers at a time.")] = 2,
    file: Annotated[
        Path | None,
        typer.Option("--input", help="Give the reader this input alone, without atheris.", exists=True),
    ] = None,
) -> None:
    """Run the readers of files on bytes that atheris makes up."""
    from mtp_regression.maintenance.fuzz import run
    from mtp_regression.maintenance.fuzz.readers import READERS

    check_names(readers, READERS, "READER")
    if file is None:
        raise typer.Exit(run.fuzz_all(readers or list(READERS), seconds, jobs))
    refuse(context, ["seconds", "jobs"], "with --input: the reader gets it once")
    if len(readers or ()) != 1:
        raise typer.BadParameter("it needs one READER", param_hint="--input")
    raise typer.Exit(run.reproduce((readers or [""])[0], file.read_bytes()))


@app.command()
def gpu_check(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Where reports and logs go.")] = Path("reports/gpu-check"),
    wheels: Annotated[
        Path | None, typer.Option(help="Wheels that this environment lacks, made by --pack.")
    ] = None,
    pack: Annotated[Path | None, typer.Option(help="Make a folder of wheels, and do nothing else.")] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="The same steps on the CPU, all of them tiny.")] = False,
    minutes: Annotated[float, typer.Option(min=0, help="The most that the steps may take.")] = 8.0,
    step: Annotated[list[str] | None, typer.Option(help="A step alone; may be repeated.")] = None,
) -> None:
    """Show on a GPU what only a GPU can show: docs/gpu.md."""
    from mtp_regression.maintenance.gpu_check import pack as packing

    if pack is not None:
        refuse(context, ["folder", "wheels", "cpu", "minutes", "step"], "with --pack, which runs no step")
        made = packing.pack(pack)
        print(f"{len(made)} wheels, {sum(path.stat().st_size for path in made) / 1e6:.1f} MB, in {pack}")
        return
    from mtp_regression.maintenance.gpu_check.run import main
    from mtp_regression.maintenance.gpu_check.steps import STEPS

    check_names(step, STEPS, "--step")
    raise typer.Exit(main(folder, wheels=wheels, on_gpu=not cpu, minutes=minutes, steps=step or ()))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def gpu_roundtrip(context: typer.Context) -> None:
    """Run `mtpkit roundtrip` with these words on the CPU, then on GPUs: the verdicts must be the same."""
    from mtp_regression.maintenance.gpu_roundtrip import main

    raise typer.Exit(main(context.args))


@app.command()
def soak(
    runs: Annotated[int, typer.Option(min=2, help="Round trips; every failure takes two.")] = 200,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
) -> None:
    """Run round trips in which one rank fails somewhere: the same failure must have the same verdict."""
    from mtp_regression.maintenance.soak.run import main

    raise typer.Exit(main(runs, seed))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def page(context: typer.Context) -> None:
    """Run pytest, with these words, on the HTML page in headless Chromium; take its pictures for the docs."""
    import pytest

    raise typer.Exit(pytest.main(["regression/tests/browser", *context.args]))


@app.command("map")
def print_map() -> None:
    """Print the packages' rooms and the imports between them; 1 if a folder or a module is too large."""
    try:
        from mtp_regression.maintenance.rooms import main

        code = main()
    except ModuleNotFoundError as error:
        typer.echo(f"{error}; it is in the environment of `nox -s lint`", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(code)
