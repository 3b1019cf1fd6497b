"""Runs the readers of headers, indexes, configs and records on bytes that atheris makes up.

    python -m mtp_regression.maintenance fuzz [--seconds N] [--jobs N] [READER]...
    python -m mtp_regression.maintenance fuzz --input FILE READER

The second form gives a reader one input again, without atheris. `targets` says what must hold. An input
that fails is kept in reports/fuzz/; reports/fuzz.json says how many inputs each reader had.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from mtp_regression.maintenance.fuzz.readers import READERS
from mtp_regression.maintenance.fuzz.seeds import write_seeds
from mtp_regression.maintenance.fuzz.targets import ReaderError, check_input, prepare

REPORTS = Path("reports")
MAX_INPUT = 2**16  # bytes; all seeds but the largest indexes fit
INPUT_SECONDS = 20  # of one input; takes milliseconds, but the machine may be loaded
PROCESS_MEMORY = 1024  # MiB
_EXECUTIONS = re.compile(r"^(?:stat::number_of_executed_units: *|#)(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What became of one reader.

    Attributes:
        reader: Its name.
        executions: Inputs that it was given.
        seeds: Inputs that the run began with.
        failures: Files with an input that failed, at most one: the first ends a run.
        output: The end of what atheris printed, where it failed.
    """

    reader: str
    executions: int
    seeds: int
    failures: list[str]
    output: str

    @property
    def passed(self) -> bool:
        """Whether the run ended well and went beyond its seeds."""
        return not self.output and not self.failures and self.executions > self.seeds


def fuzz(name: str, seeds: Path, scratch: Path, seconds: int) -> Outcome:
    """Run one reader for some seconds, in a process of its own, from the seeds in a folder."""
    prefix = REPORTS / "fuzz" / f"{name}-"
    prefix.parent.mkdir(parents=True, exist_ok=True)
    before = set(prefix.parent.glob(f"{name}-*"))
    (scratch / name).mkdir()
    corpus = scratch / f"{name}-corpus"
    corpus.mkdir()
    options = (
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT}",
        f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={PROCESS_MEMORY}",
        f"-artifact_prefix={prefix}",
        "-print_final_stats=1",
    )
    command = [
        sys.executable,
        "-m",
        "mtp_regression.maintenance.fuzz.process",
        name,
        str(scratch / name),
        *options,
    ]
    done = subprocess.run(
        [*command, str(corpus), str(seeds)], capture_output=True, text=True, errors="replace", check=False
    )
    output = done.stderr + done.stdout
    counts = [int(count) for count in _EXECUTIONS.findall(output)]
    failures = sorted(str(path) for path in set(prefix.parent.glob(f"{name}-*")) - before)
    bad = output[-4000:] if done.returncode else ""
    return Outcome(name, max(counts, default=0), len(list(seeds.iterdir())), failures, bad)


def fuzz_all(names: list[str], seconds: int, jobs: int) -> int:
    """Fuzz the readers, print a line each, write the report; returns 1 if one failed."""
    with tempfile.TemporaryDirectory(prefix="mtp-fuzz-") as scratch:
        seeds = Path(scratch, "seeds")
        write_seeds(seeds)
        with ThreadPoolExecutor(jobs) as pool:
            running = [pool.submit(fuzz, name, seeds / name, Path(scratch), seconds) for name in names]
            outcomes = [future.result() for future in running]
    for outcome in outcomes:
        verdict = f"{len(outcome.failures)} failed: {'ok' if outcome.passed else 'FAILED'}"
        print(f"{outcome.reader}: {outcome.executions} inputs in {seconds} s, {verdict}")
        if not outcome.passed:
            print(outcome.output or "no input beyond the seeds was run")
        for file in outcome.failures:
            print(f"reproduce: python -m mtp_regression.maintenance fuzz --input {file} {outcome.reader}")
    REPORTS.mkdir(exist_ok=True)
    report = {"seconds": seconds, "readers": [asdict(outcome) for outcome in outcomes]}
    (REPORTS / "fuzz.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return int(not all(outcome.passed for outcome in outcomes))


def reproduce(name: str, content: bytes) -> int:
    """Give a reader one input; returns 1 if it fails."""
    with tempfile.TemporaryDirectory(prefix="mtp-fuzz-") as scratch:
        inside = prepare(Path(scratch, name))
        try:
            taken = check_input(READERS[name], inside, content)
        except ReaderError as failure:
            print(f"{name}: {failure}")
            return 1
    print(f"{name}: {'taken' if taken else 'refused'}")
    return 0
