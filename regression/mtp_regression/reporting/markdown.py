"""What became of a run, in Markdown: to paste into an issue, or for a job's summary on GitHub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtp_regression.reporting.folding.fold import Folded, fold, fold_warnings
from mtp_regression.reporting.record import Record
from mtp_regression.reporting.reproduction import reproduce, smallest
from mtp_regression.reporting.terminal import closing, cut, trace, verdict

_SHOWN = 20
_TRACE = 60


def issue(records: Sequence[Record], report: Mapping[str, Any]) -> str:
    """Say what became of a run: bridge and release, command, findings, smallest reproduction, traceback.

    Args:
        records: The run's.
        report: Made of them.
    """
    return "\n".join([*_lines(records, report), ""])


def _lines(records: Sequence[Record], report: Mapping[str, Any]) -> Iterator[str]:
    bridges = ", ".join(dict.fromkeys(record.bridge for record in records))
    folded = fold(records)
    yield f"### {code(bridges)}: {'passed' if report['passed'] else 'failed'}"
    yield ""
    for line in verdict(records, report):
        name, _, text = line.partition(": ")
        yield f"- **{name}**: {escaped(text)}"
    yield from (f"- {escaped(line)}" for line in closing(records, report))
    if command := report.get("command"):
        yield f"- command: {code(command)}"
    yield f"- mtp-bridge-kit {escaped(report['kit'])}, device {report['device']}"
    failed = smallest(records)
    if failed and (commands := reproduce(failed, report)):
        yield from ("", "Smallest reproduction:", "", *fenced("\n".join(commands), "sh"))
    if folded:
        yield from ("", *(line for one in folded[:_SHOWN] for line in finding(one)))
    if len(folded) > _SHOWN:
        yield f"- ... and {len(folded) - _SHOWN} more"
    for warning in fold_warnings(records)[:_SHOWN]:
        yield f"- the bridge warned: {code(cut(warning))}"
    for one in folded[:_SHOWN]:
        if one.crash:
            yield from details(str(one), "\n".join(trace(one.crash, _TRACE)))


def finding(one: Folded) -> Iterator[str]:
    """Yield a finding as an item of a list: what, an example, and where."""
    yield f"- **{one.title}**{': ' if one.sentence else ''}{escaped(cut(one.sentence))}"
    if one.example:
        yield f"  - {escaped(cut(one.example))}"
    yield f"  - in {escaped(one.places)}"


def details(summary: str, text: str) -> Iterator[str]:
    """Yield a text that opens on a click."""
    yield from (
        "",
        f"<details><summary>{escaped(cut(summary))}</summary>",
        "",
        *fenced(text),
        "",
        "</details>",
    )


def fenced(text: str, language: str = "") -> Iterator[str]:
    """Yield a block of code; its fence is longer than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    yield from (f"{fence}{language}", text, fence)


def code(text: str) -> str:
    """Return code inside a line."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}" if fence == "`" else f"{fence} {text} {fence}"


def escaped(text: str) -> str:
    """Return text in which nothing is Markdown or HTML but code between backticks."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # a backtick that is one
        pieces = [text.replace("`", "'")]
    for number in range(0, len(pieces), 2):
        for character in r"\*_[]#|~":
            pieces[number] = pieces[number].replace(character, f"\\{character}")
        pieces[number] = pieces[number].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "`".join(pieces)
