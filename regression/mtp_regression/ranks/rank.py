"""A rank as the suite and its stages see it, be it a process or a thread, and how one fails."""

from __future__ import annotations

import re
import traceback as tracebacks
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol

from mtp_regression.ranks.ledger import Ledger

Kind = Literal["raised", "died", "timeout"]


class Rank(Protocol):
    """One of the ranks of a case.

    Attributes:
        rank: From 0 to `size - 1`.
        size: Number of ranks.
        ledger: Where its time goes; what is waited for others is booked.
    """

    @property
    def rank(self) -> int:
        """See the class."""

    @property
    def size(self) -> int:
        """See the class."""

    @property
    def ledger(self) -> Ledger:
        """See the class."""

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value, in rank order; called on every rank. Values of processes are pickled."""

    def barrier(self) -> None:
        """Wait for all ranks."""

    def peak_gpu_bytes(self) -> int:
        """Return the most that torch has allocated on this rank's GPU so far; 0 without one."""


class Raised(NamedTuple):
    """An exception that a rank raised, as text: its class need not be importable elsewhere.

    Attributes:
        exception: Name of its class, such as "ValueError", or with its module unless that is `builtins`.
        message: Its message; "" if it cannot be converted to text.
        traceback: Its traceback, from where the suite has called the bridge.
    """

    exception: str
    message: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> Raised:
        """Describe the exception that is being handled."""
        kind = type(error)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        text = "".join(tracebacks.format_exception(kind, error, _of_the_bridge(error)))
        try:
            message = str(error)
        except Exception:  # raised by the exception's own __str__; the traceback shows it
            message = ""
        return cls(f"{module}{kind.__qualname__}", message, text)


def _of_the_bridge(error: BaseException) -> TracebackType | None:
    """Return the traceback without the suite's own frames at its beginning, unless it has no others."""
    found = error.__traceback__
    while found is not None and _SUITE.match(found.tb_frame.f_code.co_filename):
        found = found.tb_next
    return found or error.__traceback__


_SUITE = re.compile(
    rf"{re.escape(str(Path(__file__).parents[1]))}/(adapters/using|(ranks|ranks/processes|stages|comparison)/\w+)\.py$"
)


class RankError(RuntimeError):
    """A rank failed, and so did the run.

    Attributes:
        rank: The rank that failed first; after a time-out, the first that does not wait for another rank.
        kind: The rank "raised" an exception, "died" without one, or did not end in time ("timeout"), which
            need not be waited for where all ranks wait for each other.
        exception: Class of the exception that it raised, as `Raised.exception`; "" if it raised none.
        message: The exception's message; if it raised none, how the rank ended.
        traceback: The exception's traceback; if it raised none, the end of the log or the ranks' stacks.
        logs: Every rank's log file, in rank order; none of ranks that are threads.
        exit_code: The process's, or minus the signal that it died of; None after a time-out, and of a thread.
    """

    exit_code: int | None = None

    def __init__(self, headline: str, rank: int, kind: Kind, raised: Raised, logs: Sequence[Path]) -> None:
        names = "\n".join(f"  rank {number}: {log}" for number, log in enumerate(logs))
        super().__init__(
            f"{headline}\n\n{raised.traceback.strip()}" + (f"\n\nlogs:\n{names}" if logs else "")
        )
        self.rank = rank
        self.kind = kind
        self.exception, self.message, self.traceback = raised
        self.logs = tuple(logs)

    @classmethod
    def timed_out(
        cls,
        stacks: Mapping[int, str],
        waits: Callable[[str], bool],
        size: int,
        seconds: float,
        logs: Sequence[Path],
    ) -> RankError:
        """Say which ranks still ran, those first that did not wait for another.

        Args:
            stacks: Of each rank that still ran.
            waits: Whether a rank with such a stack waits for others.
            size: Number of ranks.
            seconds: The time limit.
            logs: See the class.
        """
        suspects = [rank for rank, stack in stacks.items() if not waits(stack)]
        shown = suspects + [rank for rank in stacks if rank not in suspects]
        headline = f"{_named(list(stacks))} of {size} "
        if suspects:
            headline += f"still ran after {seconds:g} s; {_named(suspects)} did not wait for another rank"
        else:  # that it is so may have been seen before
            headline += "did not end: each waited for another rank"
        text = "\n\n".join(f"rank {rank}:\n{stacks[rank].strip() or '(gave no stack)'}" for rank in shown)
        return cls(headline, shown[0], "timeout", Raised("", headline, text), logs)


def _named(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
