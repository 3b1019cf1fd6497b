"""What becomes of processes that tests have started."""

import re
import signal
import time
from functools import partial
from pathlib import Path

LONG = 60.0  # seconds, that even a busy machine does not need

hear_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
"""For `preexec_fn`: a shell's background job, as a test run may be, is born deaf to Ctrl-C."""


def alive(pid: int | str) -> bool:
    """Whether a process is there, and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(processes: list[int]) -> bool:
    """Whether all processes end; how fast is the machine's."""
    limit = time.monotonic() + LONG
    while any(map(alive, processes)):
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True


def logged_pids(folder: Path) -> list[int]:
    """The process ids that the ranks of all cases have logged as lines "pid 123", in rank order."""
    logs = [log.read_text() for log in sorted(folder.rglob("*.log"))]
    return [int(pid) for text in logs for pid in re.findall(r"^pid (\d+)$", text, re.MULTILINE)]
