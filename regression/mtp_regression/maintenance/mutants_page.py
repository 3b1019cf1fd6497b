"""The page of mutants, from what became of each.

python -m mtp_regression.maintenance mutants-page > docs/mutants.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mtp_regression.mutants import grid
from mtp_regression.mutants.criteria import CRITERIA
from mtp_regression.mutants.run import Result
from mtp_regression.mutants.table import MUTANTS
from mtp_regression.ranks.parallel import DEFAULT_GRID, GRID, Parallel

_HEAD = """# Mutants

Would a test have noticed? `mtpkit mutants` makes the mistakes that bridges were reported for, and others like
them, in the bridge of numpy arrays that ships with the kit (`in-memory`), one at a time, and runs the suite's
checks on each. All are seen by the stages that are meant to see them ([report.md](report.md)), and by no
other; the bridge without a mistake passes with every one of these checkpoints and layouts.

    mtpkit mutants --list
    mtpkit mutants 'exports-*'
    mtpkit roundtrip CHECKPOINT --adapter mtp_regression.mutants.bridges:packed-mtp-skipped
    mtpkit mutants --suite 'pytest my_tests'

The third shows what a report says of one; the last how many of them [your own tests](your-bridge.md) notice.

For comparison, the same mutants before the criteria of others, written from their tests, each with the
mutant's checkpoint in its layout. Parameters are random before the load, as Megatron-Core makes them; weights
are the fixtures', most of them between 2**-8 and 2**-4. Not all mutants can show in one export: for that no
criterion is to blame, so the last column counts those alone that the stages `stream` or `saved` see.

"""

_LAYOUTS = """## Layouts

The main job, `mtpkit roundtrip`, takes the checkpoints of Qwen3.5 and 3.6 through the layouts in bold, which
with the fewest ranks see all that all of them see (`--grid full`): the mistakes that a single rank shows;
those below, for which it takes several; and all that a layout can do with a model. Megatron-Bridge with a
mistake in one of its mappings (`regression/tests/rank_functions/oracle_saboteurs.py`) is seen in `tp1` or
`tp2`. `python -m mtp_regression.maintenance mutants-grid` measures it anew."""


def page(results: Sequence[Result]) -> str:
    """Return the page as Markdown.

    Args:
        results: What became of every mutant, in any order.
    """
    by_name = {result.name: result for result in results}
    found = [by_name[name] for name in MUTANTS]
    return _HEAD + "\n".join([*_scores(found), "", *_table(found), "", *layouts()]) + "\n"


def layouts() -> Iterator[str]:
    """Yield the section on the layouts of the main job."""
    yield from (_LAYOUTS, "", f"| | {' | '.join(map(_layout, GRID))} |", "|---" * (len(GRID) + 1) + "|")
    for what, seen in grid.required(grid.known()).items():
        cells = ("seen" if str(parallel) in seen else "-" for parallel in GRID)
        yield f"| {what} | {' | '.join(cells)} |"


def _layout(parallel: Parallel) -> str:
    return f"**{parallel}**" if parallel in DEFAULT_GRID else str(parallel)


def _scores(found: Sequence[Result]) -> Iterator[str]:
    showing = [result for result in found if {"stream", "saved"} & {*result.seen_by}]
    yield "| criterion | what it compares | sees | of those that show in one export |"
    yield "|---|---|---|---|"
    ours = sum(result.killed for result in found)
    yield (
        f"| mtp-bridge-kit | every byte, in every stage | {ours} of {len(found)} "
        f"| {len(showing)} of {len(showing)} |"
    )
    for name, criterion in CRITERIA.items():
        of = "saved folder" if criterion.saved else "stream"
        about = f"the {of}: {criterion.about} (`{criterion.file}`)"
        every, some = (sum(result.criteria[name] for result in part) for part in (found, showing))
        yield f"| {criterion.project} | {about} | {every} of {len(found)} | {some} of {len(showing)} |"


def _table(found: Sequence[Result]) -> Iterator[str]:
    columns = ("mutant", "what it does", "reports", "shown by", "seen by", *CRITERIA)
    yield from (f"| {' | '.join(columns)} |", "|---" * len(columns) + "|")
    for result in found:
        mutant = MUTANTS[result.name]
        criteria = ["seen" if failed else "-" for failed in result.criteria.values()]
        cells = (
            mutant.about,
            mutant.report or "-",
            mutant.shown_by.replace("|", "\\|"),
            ", ".join(result.seen_by),
            *criteria,
        )
        yield f"| `{mutant.name}` | {' | '.join(cells)} |"
