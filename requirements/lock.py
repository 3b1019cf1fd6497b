"""Pins the environments of the sessions, in this folder; for `noxfile.py`."""

import re
from collections.abc import Sequence
from pathlib import Path

import nox
from requirements.adapters import ENVIRONMENTS, READERS

HERE = Path("requirements")
KIT_AND_TESTS = ("pyproject.toml", "--group", "pyproject.toml:test")
LEFT_OUT = ("--override", str(HERE / "overrides.txt"))


def pin_all(session: nox.Session, releases: Sequence[str], *, python: str, oldest_python: str) -> None:
    """Resolve every environment again, by what NAME.in asks for, into NAME.txt.

    Args:
        session: Its arguments go to uv, such as `--upgrade`.
        releases: Releases of Megatron-Bridge that have an environment; the last is the default.
        python: The Python of all environments but those of the generator.
        oldest_python: Theirs.
    """
    session.install("uv")
    for release in releases:
        _pin(session, f"megatron-bridge-{release}", *KIT_AND_TESTS, *LEFT_OUT, python=python)
    for name in ENVIRONMENTS:
        _pin(session, name, "pyproject.toml", *LEFT_OUT, python=python)
    for name in READERS:
        _pin(session, name, "pyproject.toml", python=python)
    _pin(session, "light", *KIT_AND_TESTS, python=oldest_python)
    _pin(session, "oldest", "pyproject.toml", "--resolution", "lowest-direct", python=oldest_python)
    _pin(session, "lint", "pyproject.toml", python=python)
    for on_top in ("fuzz", "page"):
        _pin(session, on_top, python=python)
    # Drawn where it is measured: with the oldest release, whose pins stay.
    _pin(session, "demo", "--constraint", str(HERE / f"megatron-bridge-{releases[0]}.txt"), python=python)
    _pin(session, "bench", "--constraint", str(HERE / f"megatron-bridge-{releases[-1]}.txt"), python=python)
    # TransformerEngine goes on top of the default release's environment, and changes these pins alone.
    pins = (HERE / f"megatron-bridge-{releases[-1]}.txt").read_text(encoding="utf-8")
    beside = Path(session.create_tmp(), "constraints.txt")
    beside.write_text(
        re.sub(r"^nvidia-(cudnn-frontend|cutlass-dsl.*)==.*$", "", pins, flags=re.MULTILINE), encoding="utf-8"
    )
    _pin(session, "transformer-engine", "--constraint", str(beside), "--no-annotate", python=python)


def _pin(session: nox.Session, name: str, *options: str, python: str) -> None:
    """Write requirements/NAME.txt; no addresses are written."""
    session.run(
        *("uv", "pip", "compile", str(HERE / f"{name}.in"), *options),
        *("--output-file", str(HERE / f"{name}.txt"), "--python-version", python),
        *("--no-emit-index-url", "--no-emit-find-links", "--no-header", "--quiet", *session.posargs),
    )
