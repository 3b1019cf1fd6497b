"""Reports for the tests of their page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.page.write import write_page
from mtp_regression.ranks.devices import Device
from mtp_regression.reporting.document import report_of
from mtp_regression.reporting.record import Crash, Record
from mtp_regression.stages.case import Stage

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
"""What nobody calls a tensor."""


def record(parallel: str = "tp1", stage: str = "native", verdict: str = "exact", **fields: Any) -> Record:
    """A record of the checkpoint `packed`, with 8 tensors compared."""
    checkpoint = fields.setdefault("checkpoint", "packed")
    named: dict[str, Any] = {
        "bridge": "theirs 1.0",
        "engine": "numpy",
        "ranks": 2,
        "declared": 0,
        "seconds": 0.25,
        "case_seconds": 1.5,
        "compared": 8,
        "check": f"{checkpoint}-{parallel}::{stage}",
    }
    return Record(**named | fields, parallel=parallel, stage=stage, verdict=Verdict(verdict))


def wrong(count: int, name: str = "mtp.layers.0.mlp.experts.linear_fc1.weight{}") -> list[Finding]:
    """Findings of wrong values, on rank 1."""
    detail = "7000 of 7040 elements differ, first [0, 3]: 0x3c12 (0.0089) instead of 0x3c98 (0.0186)"
    return [Finding(name.format(n), Verdict.WRONG, detail, rank=1, chunk=0) for n in range(count)]


def crash(message: str = "Unknown parallelism type: None", lines: int = 20) -> Crash:
    """An error that a bridge has raised while it exported."""
    frames = "\n".join(f'  File "bridge.py", line {n}, in export_{n}' for n in range(lines))
    text = f"rank 1 of 2 raised\n\nTraceback (most recent call last):\n{frames}\nValueError: {message}"
    return Crash(Stage.STREAM, 1, "raised", "ValueError", message, refused=False, text=text)


def report(*records: Record, **fields: Any) -> dict[str, Any]:
    """A report of records; other fields are put into it."""
    return report_of(records, device=Device.CPU, import_seconds=0.5, seconds=12.0) | fields


def failing() -> dict[str, Any]:
    """Two checkpoints in three layouts, of which packed fails in ep2: values, a crash, a warning."""
    grid = [
        record(layout, stage, checkpoint=checkpoint)
        for checkpoint in ("per-expert", "packed")
        for layout in ("tp1", "tp2", "ep2")
        for stage in ("native", "stream", "saved")
        if (checkpoint, layout) != ("packed", "ep2")
    ]
    more: dict[str, Any] = {
        "warnings": ["WARNING: Can't find the following HF parameters in hf_keys"],
        "logs": ["/elsewhere/reports/logs/packed/ep2/rank0.log", "reports/logs/packed/ep2/rank1.log"],
    }
    return report(
        *grid,
        record("ep2", "native", "wrong", tensors=wrong(12), **more),
        record("ep2", "stream", "crash-export", crash=crash(), compared=0, **more),
        record("ep2", "saved", **more),
    )


def hostile() -> dict[str, Any]:
    """A report in which all that a bridge has a say in is markup."""
    everywhere: dict[str, Any] = {"checkpoint": HOSTILE, "bridge": HOSTILE, "engine": HOSTILE}
    finding = Finding(HOSTILE, Verdict.WRONG, HOSTILE, HOSTILE, rank=0, chunk=0)
    more = {"warnings": [HOSTILE], "logs": [f"logs/{HOSTILE}"], "stale": [HOSTILE]}
    error = Crash(Stage.STREAM, 0, "raised", HOSTILE, HOSTILE, refused=False, text=HOSTILE)
    return report(
        record(HOSTILE, HOSTILE, "wrong", tensors=[finding] * 9, **everywhere, **more),
        record(HOSTILE, "stream", "crash-export", crash=error, **everywhere),
        stages_not_run={HOSTILE: HOSTILE},
        not_run=[HOSTILE],
        unfinished=[HOSTILE],
        differences=[HOSTILE],
        kit=HOSTILE,
        device=HOSTILE,
    )


def conformance(cells: int = 124, checks: int = 366, tensors: int = 0) -> dict[str, Any]:
    """A report of as many checks as the suite has: two checkpoints in 13 layouts, the others in one each."""
    layouts = [f"tp{n}" for n in range(1, 14)]
    where = [(name, layout) for name in ("per-expert", "packed") for layout in layouts]
    where += [(f"scenario-{n}-qwen3.6-35b-a3b", "tp2 ep2") for n in range(cells - len(where))]
    stages = ["native", "stream", "saved", "files", "retrained", "reloaded"]
    records = []
    for number in range(checks):
        checkpoint, layout = where[number % cells]
        fields: dict[str, Any] = {}
        if tensors:
            error = crash(f"in {checkpoint}, {layout}, {number}", lines=400) if number % 3 else None
            fields = {"verdict": "wrong", "tensors": wrong(tensors), "crash": error}
        records.append(record(layout, stages[number // cells], checkpoint=checkpoint, **fields))
    return report(*records)


def page(path: Path, *reports: dict[str, Any], folders: Sequence[Path] = ()) -> str:
    """Write the page of reports, and give what is in it."""
    write_page(reports, path, folders=folders)
    return path.read_text(encoding="utf-8")
