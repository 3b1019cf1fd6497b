"""What becomes of processes that tests have started."""

import re
import signal
from functools import partial
from pathlib import Path

hear_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
"""For `preexec_fn`: a shell's background job, as a test run may be, is born deaf to Ctrl-C."""


def alive(pid: int | str) -> bool:
    """Whether a process is there, and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pids_in(text: str) -> list[int]:
    """The process ids that were logged as lines "pid 123"."""
    return [int(pid) for pid in re.findall(r"^pid (\d+)$", text, re.MULTILINE)]


def logged_pids(folder: Path) -> list[int]:
    """The process ids that the ranks of all cases have logged, in rank order."""
    return [pid for log in sorted(folder.rglob("*.log")) for pid in pids_in(log.read_text())]
