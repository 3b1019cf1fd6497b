"""Runs the reproduction of every finding of the installed bridge: as it is, and with the patch.

    python -m mtp_regression.maintenance findings [NUMBER]... [--update]

Where a release has the finding, its reproduction must fail as `finding.toml` says; elsewhere it must not.
With the patch applied to a copy of the release's source it must end well. `--update` keeps what was printed.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout, suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from mtp_bridge_patch.releases import ENVIRONMENTS
from mtp_regression.findings.finding import DISTRIBUTIONS, MEGATRON_BRIDGE, Finding
from mtp_regression.maintenance.known import conclude
from mtp_regression.on_cpu import run_ranks
from mtp_regression.ranks.processes.fork_server import warm

_TIME_LIMIT = 240.0
_PATCHED = "mtp_regression.maintenance.findings.patched"
_PRELOAD = "mtp_regression.maintenance.findings.preload"
_NOISE = re.compile(
    r"on_cpu: |WARNING|\[INFO:|\[rank\d|\d{4}-\d\d-\d\d |.*Warning: |  \w+(\.\w+)?\(\)$|  warnings\.warn"
    r"| > |--------|\s*[\^~]*$|[\w ]+: +\d+%\|.*it/s\]$"
)
_NOT_THE_SCRIPT = re.compile(r'  File ".*(?:/mtp_\w+/.*\.py|<frozen runpy>)", line.*\n(?:    .*\n)*')
"""Frames of a traceback: what has started the script."""
_CHANGED = re.compile(r"^--- a/(?:src/)?(\S+)", re.MULTILINE)
_MOST_LINES = 12
_WIDTH = 200


def main(findings: Sequence[Finding], *, update: bool) -> int:
    """Run the reproductions of findings; returns 0 if all is as it is said, 1 if not, 2 if there is none."""
    bridge, release = installed()
    chosen = [one for one in findings if one.reproduction and one.bridge == bridge]
    if not chosen:
        print(f"none of these has a script, and is a finding of what is installed here: {bridge} {release}")
        return 2
    warm([_PRELOAD])
    problems = [problem for one in chosen for problem in check(one, release, update=update)]
    return conclude(f"{len(chosen)} reproductions on {bridge} {release}", problems)


def installed() -> tuple[str, str]:
    """Name the bridge of this environment, and its release; "no bridge" if there is none."""
    for bridge, distribution in DISTRIBUTIONS.items():
        with suppress(metadata.PackageNotFoundError):
            return bridge, metadata.version(distribution)
    return "no bridge", ""


def check(finding: Finding, release: str, *, update: bool = False) -> Iterator[str]:
    """Say what is not as it should be with a finding's reproduction, and with its patch, on a release."""
    like = ENVIRONMENTS[release] if finding.bridge == MEGATRON_BRIDGE else release
    has_it = like in finding.releases
    with tempfile.TemporaryDirectory(prefix="mtp-finding-") as scratch:
        folder = Path(scratch)
        code, text = reproduce(finding, folder)
        shown = code != 0 and finding.fails_with in text
        print(f"{finding.number}: {'fails' if shown else 'does not fail'} on {release}", flush=True)
        if shown != has_it:
            wanted = repr(finding.fails_with) if has_it else "another end"
            yield f"{finding.number}: exit code {code}, where {wanted} is expected: {text[-3000:]}"
        if release != finding.patched_release:
            return
        if update:
            (finding.folder / "output.txt").write_text(shorten(text), encoding="utf-8")
        if not finding.patch:
            return
        said = apply(finding.patch, folder / "source")
        if said:
            yield f"{finding.number}: the patch does not apply: {said}"
            return
        code, text = reproduce(finding, folder, source=folder / "source")
        print(f"{finding.number}, patched: exit code {code}", flush=True)
        if code:
            yield f"{finding.number}, patched: exit code {code}: {text[-3000:]}"


def reproduce(finding: Finding, folder: Path, source: Path | None = None) -> tuple[int, str]:
    """Run a reproduction on ranks of its own.

    Args:
        finding: The finding.
        folder: For a new folder with the script, its files and logs.
        source: A folder with the patched package to take instead of the environment's.

    Returns:
        The exit code and what was printed, by rank 0 and about a rank that failed.
    """
    work = Path(tempfile.mkdtemp(dir=folder))
    script = work / "reproduction.py"
    script.write_text(finding.reproduction, encoding="utf-8")
    command = [str(script)]
    if source is not None:
        command = [_PATCHED, str(source), package_of(finding.patch), str(script)]
    printed = io.StringIO()
    with chdir(work), redirect_stdout(printed), redirect_stderr(printed):
        code = run_ranks(
            command,
            module=source is not None,
            ranks=finding.ranks,
            time_limit=_TIME_LIMIT,
            logs=work / "logs",
        )
    return code, printed.getvalue().replace(f"{work}/", "")


def apply(patch: str, folder: Path) -> str:
    """Make a copy of the installed package that a patch is of, links but for what the patch changes.

    Args:
        patch: A unified diff from the root of the repository, which may have its packages in `src`.
        folder: Where the copy goes, as `megatron/bridge` for example.

    Returns:
        Why the patch does not apply; empty if it does.
    """
    package = package_of(patch)
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(Path(spec.origin).parent, folder / package.replace(".", "/"), copy_function=os.symlink)
    for name in _CHANGED.findall(patch):
        file = folder / name
        original = file.resolve()
        file.unlink()
        shutil.copyfile(original, file)  # with a time of its own, so that no old bytecode is taken for it
    parts = 2 if "--- a/src/" in patch else 1
    command = ["git", "apply", f"-p{parts}", "--whitespace=nowarn", "-"]
    alone = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    done = subprocess.run(
        command, input=patch, text=True, cwd=folder, env=alone, capture_output=True, check=False
    )
    return done.stderr


def package_of(patch: str) -> str:
    """Name the package whose source a patch changes: `megatron.bridge`, for `megatron` is not one's own."""
    first, second, *_ = _CHANGED.findall(patch)[0].split("/")
    return f"{first}.{second}" if first == "megatron" else first


def shorten(text: str) -> str:
    """Return the end of what was printed, without the noise of start-up, and without this machine's paths."""
    text, _, failed = text.partition("\non_cpu: ")
    if "Traceback" not in text:  # of another rank than the first
        text += failed.partition("\nlogs:\n")[0]
    text = _NOT_THE_SCRIPT.sub("", text.replace(f"{sysconfig.get_path('purelib')}/", ""))
    lines = [line for line in text.splitlines() if not _NOISE.match(line)]
    left_out = len(lines) - _MOST_LINES
    kept = lines[-_MOST_LINES:]
    if left_out > 0:
        kept.insert(0, f"[... {left_out} lines]")
    return "\n".join(line if len(line) <= _WIDTH else f"{line[:_WIDTH]} [...]" for line in kept) + "\n"
