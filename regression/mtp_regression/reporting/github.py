"""What a workflow on GitHub shows of a run: an annotation for each finding, and the job's summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from mtp_regression.reporting.folding.fold import fold
from mtp_regression.reporting.markdown import issue
from mtp_regression.reporting.record import Record

_SHOWN = 10
"""Annotations of one kind that GitHub shows of a step."""


def announce(
    records: Sequence[Record], report: Mapping[str, Any], environment: Mapping[str, str], file: TextIO
) -> None:
    """Print annotations if this is a workflow of GitHub, and add to the summary if there is one.

    Args:
        records: The run's.
        report: Made of them.
        environment: GITHUB_ACTIONS says that it is one, GITHUB_STEP_SUMMARY where the summary is.
        file: Where annotations are printed: GitHub reads a step's standard output and standard error.
    """
    if environment.get("GITHUB_ACTIONS") != "true":
        return
    for line in commands(records):
        print(line, file=file)
    if summary := environment.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as page:
            page.write(issue(records, report))


def commands(records: Sequence[Record]) -> Iterator[str]:
    """Yield a workflow command for each of the first findings, the gravest first.

    https://docs.github.com/actions/reference/workflow-commands-for-github-actions has the form.
    """
    for one in fold(records)[:_SHOWN]:
        title = f"{one.seen[0].bridge}: {one.title}"
        text = "\n".join(filter(None, [one.sentence or one.title, one.example, f"in {one.places}"]))
        yield f"::error title={_property(title)}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
