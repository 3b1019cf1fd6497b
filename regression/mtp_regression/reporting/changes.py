"""What a person sees of two reports, or of two checkpoints, that are held against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console

from mtp_regression.comparison.folders import Compared
from mtp_regression.comparison.verdicts import Verdict, worst
from mtp_regression.reporting.differences import Change, Difference, told
from mtp_regression.reporting.folding.fold import Folded, fold
from mtp_regression.reporting.markdown import code, escaped, finding
from mtp_regression.reporting.record import Record
from mtp_regression.reporting.tables import cells, passed
from mtp_regression.reporting.terminal import cut, findings

_STYLES = {Change.WORSE: "bold red", Change.BETTER: "green"}


def show_changes(
    console: Console, found: Sequence[Difference], earlier: Sequence[Record], later: Sequence[Record]
) -> None:
    """Print what got worse, what changed and what got better; then what is wrong where it got worse."""
    for name, records in (("earlier", earlier), ("later", later)):
        console.print(f"{name + ':':<9}{_summary(records)}", soft_wrap=True, highlight=False, markup=False)
    for change, sentence, places in told(found, [*later, *earlier]):
        line = f"{change}: {cut(sentence)}"
        console.print(line, soft_wrap=True, highlight=False, markup=False, style=_STYLES.get(change))
        console.print(f"  in {cut(places)}", soft_wrap=True, highlight=False, markup=False)
    for line in findings([one.record for one in found if one.change is Change.WORSE]):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    console.print(_closing(found), soft_wrap=True, highlight=False)


def changes_as_markdown(
    found: Sequence[Difference], earlier: Sequence[Record], later: Sequence[Record]
) -> str:
    """Say the same in Markdown, for a pull request."""
    lines = [f"### {_closing(found)}", ""]
    lines += [f"- earlier: {escaped(_summary(earlier))}", f"- later: {escaped(_summary(later))}", ""]
    if found:
        lines += ["| | what | where |", "|---|---|---|"]
    for change, sentence, places in told(found, [*later, *earlier]):
        lines.append(f"| {change} | {escaped(sentence)} | {escaped(places)} |")
    worse = fold([one.record for one in found if one.change is Change.WORSE])
    if worse:
        lines += ["", "What is wrong where it got worse:", ""]
    return "\n".join([*lines, *(line for one in worse for line in finding(one)), ""])


def _summary(records: Sequence[Record]) -> str:
    bridges = ", ".join(dict.fromkeys(record.bridge for record in records))
    exact = Counter(map(passed, cells(records).values()))
    return f"{bridges}, {exact[True]} of {exact.total()} cells exact"


def _closing(found: Sequence[Difference]) -> str:
    counts = Counter(one.change for one in found)
    said = ", ".join(f"{counts[change]} {change}" for change in Change if counts[change])
    return f"{said} (stages of cells)" if said else "the same in both"


def folders_as_text(compared: Compared, first: str, second: str) -> Iterator[str]:
    """Yield what two checkpoints differ in, each thing once, and how many tensors and files are equal."""
    for one in _folded(compared, second):
        yield cut(str(one))
        if one.example:
            yield f"  {cut(one.example)}"
    yield _equal(compared, first, second)


def folders_as_markdown(compared: Compared, first: str, second: str) -> Iterator[str]:
    """Yield the same in Markdown."""
    yield from (f"### {code(first)} and {code(second)}", "")
    for one in _folded(compared, second):
        yield from (line for line in finding(one) if not line.startswith("  - in "))
    yield f"- {escaped(_equal(compared, first, second))}"


def _folded(compared: Compared, second: str) -> list[Folded]:
    verdict = worst(found.verdict for found in compared.findings)
    record = Record("", "", second, "", 1, "", "", verdict, 0, 0.0, 0.0, tensors=compared.findings)
    return fold([record]) if verdict is not Verdict.EXACT else []


def _equal(compared: Compared, first: str, second: str) -> str:
    if not compared.findings:
        return f"{first} and {second}: equal, {compared.tensors} tensors and {compared.files} other files"
    count = len(compared.findings)
    return f"{first} and {second}: {count} difference{'s' * (count != 1)}"
