"""The command `mtpkit mutants`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mtp_regression.commands.console import Json, fail, print_table, refuse

if TYPE_CHECKING:
    from rich.table import Table

    from mtp_regression.mutants.mutant import Mutant
    from mtp_regression.mutants.run import Result
    from mtp_regression.mutants.suite import Suite, Verdict

Item = TypeVar("Item")


def mutants(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="A mutant, or a pattern of some, like 'exports-*'.", show_default="all"
        ),
    ] = None,
    suite: Annotated[
        str, typer.Option(help="Judge your tests: a command, like 'pytest my_tests'.", show_default=False)
    ] = "",
    listed: Annotated[bool, typer.Option("--list", help="List them, and run none.")] = False,
    as_json: Json = False,
) -> None:
    """Make known mistakes in a bridge, one at a time, and see whether the suite, or yours, notices.

    Exits with 0 if all are noticed, with 1 if one is not, and with 2 if none could be tried.
    """
    from mtp_regression.mutants.table import MUTANTS

    chosen = [
        mutant
        for mutant in MUTANTS.values()
        if not names or any(fnmatchcase(mutant.name, pattern) for pattern in names)
    ]
    for pattern in names or ():
        if not any(fnmatchcase(mutant.name, pattern) for mutant in chosen):
            raise typer.BadParameter(f"no mutant is called {pattern}; --list has all", param_hint="NAME")
    if listed:
        refuse(context, ["suite"], "with --list, which runs nothing")
        _list(chosen, as_json=as_json)
    elif suite:
        _judge_suite(suite, chosen, as_json=as_json)
    else:
        _judge_ourselves(chosen, as_json=as_json)


def _list(chosen: Sequence[Mutant], *, as_json: bool) -> None:
    fields = ("name", "about", "report", "model", "layout")
    if as_json:
        rows = [
            {field: getattr(mutant, field) for field in fields}
            | {"seen_by": [*mutant.seen_by], "any bridge": mutant.of_any_bridge}
            for mutant in chosen
        ]
        print(json.dumps(rows))
        return
    table = _table("mutant", "what it does", "report", folded=(1, 2))
    for mutant in chosen:
        table.add_row(mutant.name, mutant.about, mutant.report)
    print_table(table)


def _judge_ourselves(chosen: Sequence[Mutant], *, as_json: bool) -> None:
    from mtp_regression.mutants.criteria import CRITERIA
    from mtp_regression.mutants.run import results

    by_name = {one.name: one for one in _with_bar(results(chosen), len(chosen), lambda one: one.name)}
    found = [by_name[mutant.name] for mutant in chosen]
    right = [*results(chosen, right=True)]
    alarms = [one for one in right if one.killed or any(one.criteria.values())]
    scores = {"mtp-bridge-kit": sum(one.killed for one in found)}
    scores |= {name: sum(one.criteria[name] for one in found) for name in CRITERIA}
    if as_json:
        fields = {"mutants": [one.fields for one in found], "scores": scores}
        print(json.dumps(fields | {"false alarms": [one.fields for one in alarms]}))
    else:
        _show_scores(chosen, found, scores)
        for one in alarms:
            print(f"the right bridge fails, as {one.name} is tried: {'; '.join(one.findings)}")
        print(f"the right bridge: {len(right) - len(alarms)} of {len(right)} checkpoints and layouts pass")
    raise typer.Exit(0 if all(one.as_meant and one.explained for one in found) and not alarms else 1)


def _show_scores(chosen: Sequence[Mutant], found: Sequence[Result], scores: Mapping[str, int]) -> None:
    table = _table("mutant", *scores, folded=(1,))
    for one in found:
        others = ["seen" if failed else "-" for failed in one.criteria.values()]
        table.add_row(one.name, " ".join(one.seen_by) or "-", *others)
    print_table(table)
    for name, score in scores.items():
        print(f"{name}: {score} of {len(found)}")
    for mutant, one in zip(chosen, found, strict=True):
        if not one.as_meant:
            print(f"{one.name}: meant for {' '.join(mutant.seen_by)}; seen by {' '.join(one.seen_by) or '-'}")
        if not one.explained:
            found_instead = "; ".join(one.findings) or "no tensor"
            print(f"{one.name}: no sentence on a wrong tensor has {mutant.origin!r}; found: {found_instead}")


def _judge_suite(command: str, chosen: Sequence[Mutant], *, as_json: bool) -> None:
    from mtp_regression.mutants.suite import Suite, SuiteError

    try:
        suite = Suite.of(command)
    except SuiteError as error:
        fail(str(error))
    able = suite.able(chosen)
    if not able:
        fail(f"none of these mutants can be made of {', '.join(suite.bridges)}, which the tests ask for")
    by_name = {one.name: one for one in _with_bar(suite.verdicts(able), len(able), lambda one: one.name)}
    verdicts = [by_name[mutant.name] for mutant in able]
    if as_json:
        print(json.dumps({"bridges": suite.bridges, "mutants": [vars(verdict) for verdict in verdicts]}))
    else:
        _show_suite(suite, able, verdicts, len(chosen))
    raise typer.Exit(0 if all(verdict.killed for verdict in verdicts) else 1)


def _show_suite(suite: Suite, able: Sequence[Mutant], verdicts: Sequence[Verdict], chosen: int) -> None:
    survivors = [mutant for mutant, verdict in zip(able, verdicts, strict=True) if not verdict.killed]
    for mutant in survivors:
        print(f"not noticed: {mutant.name}: {mutant.about}")
        print(f"  shows in {mutant.shown_by}: {', '.join(mutant.seen_by)}")
    for verdict in verdicts:
        if verdict.timed_out:
            print(f"{verdict.name}: the tests took too long, which counts as a failure")
    print(f"{len(able) - len(survivors)} of {len(able)} mutants noticed; of {', '.join(suite.bridges)}")
    if len(able) < chosen:
        print(f"{chosen - len(able)} others can only be made of the in-memory bridge")


def _table(*columns: str, folded: Collection[int]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number not in folded)
    return table


def _with_bar(items: Iterable[Item], total: int, name: Callable[[Item], str]) -> list[Item]:
    """Take all items, and show on standard error how many are there."""
    from rich.console import Console
    from rich.progress import Progress

    taken: list[Any] = []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("mutants", total=total)
        for item in items:
            taken.append(item)
            progress.update(task, advance=1, description=name(item))
    return taken
