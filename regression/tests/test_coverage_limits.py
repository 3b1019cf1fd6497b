"""The memory that `nox -s coverage` sets a limit to."""

import subprocess
import sys

from mtp_regression.maintenance.coverage_limits import resident


def test_memory_of_a_process_is_counted_with_that_of_its_children() -> None:
    child = "import sys; held = b'x' * 200_000_000; print(flush=True); sys.stdin.read()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 200_000_000 < resident(process.pid) < 300_000_000
        process.communicate()
