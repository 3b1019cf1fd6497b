"""The score of somebody's own tests: how many mutants make their command fail."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from mtp_regression.mutants.mutant import Mutant
from mtp_regression.mutants.run import jobs
from mtp_regression.mutants.under_test import ASKED, MUTANT
from mtp_regression.ranks.processes.process import kill_at_hangup

_AT_LEAST, _TIMES = 60.0, 10
"""Seconds that the command may take with a mutant, and how many times what it takes with right bridges."""


class SuiteError(RuntimeError):
    """The command can judge no mutant; the message says why, and has its output."""


@dataclass(frozen=True)
class Verdict:
    """What a command made of a mutant.

    Attributes:
        name: The mutant's.
        killed: Whether the command failed.
        timed_out: Whether it was ended because it took too long, which counts as a failure.
    """

    name: str
    killed: bool
    timed_out: bool = False


@dataclass(frozen=True)
class Suite:
    """A command that runs tests, which passes with right bridges.

    Attributes:
        words: The command.
        seconds: What it took.
        bridges: The bridges that it asked for, as "package.module:Class".
        in_memory: Whether the in-memory bridge is one of them.
    """

    words: Sequence[str]
    seconds: float
    bridges: Sequence[str]
    in_memory: bool

    @classmethod
    def of(cls, command: str) -> Suite:
        """Run a command with right bridges.

        Args:
            command: Words as a shell splits them; no shell runs them.

        Raises:
            SuiteError: There is no such program, the command fails, or it asks for no bridge.
        """
        words = shlex.split(command)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="mtp-suite-") as name:
            asked = Path(name, "asked")
            try:
                done = subprocess.run(
                    words,
                    env=_environment(asked),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    check=False,
                )
            except (OSError, IndexError) as error:
                raise SuiteError(f"cannot run {command!r}: {error}") from None
            lines = asked.read_text(encoding="utf-8").splitlines() if asked.exists() else []
        if done.returncode:
            raise SuiteError(
                f"{done.stdout}\n{command!r} fails, with exit code {done.returncode}, without any mutant"
            )
        if not lines:
            raise SuiteError(
                f"the tests of {command!r} asked for no bridge, so that no mutant can fail them: have them "
                "take mtp_regression.mutants.bridge_under_test(), or mutated(MyBridge), or go through the "
                "fixture roundtrip, BridgeConformance or pytest --mtp-bridge"
            )
        told = [line.split(" ", 1) for line in dict.fromkeys(lines)]
        return cls(
            words,
            time.perf_counter() - start,
            [bridge for _, bridge in told],
            any(kind == "in-memory" for kind, _ in told),
        )

    def able(self, mutants: Sequence[Mutant]) -> list[Mutant]:
        """Return those mutants that a bridge which the tests ask for can be."""
        return [mutant for mutant in mutants if self.in_memory or mutant.of_any_bridge]

    def verdicts(self, mutants: Sequence[Mutant]) -> Iterator[Verdict]:
        """Run the command once with each mutant, several at a time; verdicts come when they are there."""
        with ThreadPoolExecutor(jobs()) as pool:
            for future in as_completed([pool.submit(self._judge, mutant) for mutant in mutants]):
                yield future.result()

    def _judge(self, mutant: Mutant) -> Verdict:
        reading, writing = os.pipe()  # the writing end is this process's alone
        with tempfile.TemporaryDirectory(prefix="mtp-suite-") as name:
            started = subprocess.Popen(
                self.words,
                env=_environment(Path(name, "asked")) | {MUTANT: mutant.name},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # so that what it has started can be ended with it
                pass_fds=[reading],
            )
            kill_at_hangup(reading, -started.pid)
            try:
                code = started.wait(max(_AT_LEAST, _TIMES * self.seconds))
            except subprocess.TimeoutExpired:
                return Verdict(mutant.name, killed=True, timed_out=True)
            finally:
                if started.poll() is None:
                    os.killpg(started.pid, signal.SIGKILL)
                    started.wait()
                os.close(reading)
                os.close(writing)
        return Verdict(mutant.name, killed=code != 0)


def _environment(asked: Path) -> dict[str, str]:
    """Return the environment of a run whose tests tell in a file which bridges they ask for.

    Programs beside this Python are found first: its pytest has the kit, whether or not it is on the path.
    """
    kept = {key: text for key, text in os.environ.items() if key != MUTANT}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return {**kept, "PATH": path, ASKED: str(asked)}
