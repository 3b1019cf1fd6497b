# /// script
# requires-python = ">=3.8"
# ///
# By this, `uv run noxfile.py` needs nothing of the project to start.
"""Sessions: `python3 noxfile.py -l` lists them; `tests` and `roundtrip` are the two that the README names."""

import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

if __name__ == "__main__":  # started by a Python that need not have nox
    runpy.run_path(str(Path(__file__).parent / "requirements" / "bootstrap.py"), run_name="__main__")

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests", "lint"]

# The generator and the patch run on all; Megatron-Bridge needs >=3.12,<3.13.
OLDEST_PYTHON, PYTHON = nox.project.python_versions(nox.project.load_toml("pyproject.toml"))
RELEASES = ("0.4.2", "0.5.1", "0.6.2")
DEFAULT_RELEASE = "0.6.2"
KNOWN_BAD_RELEASE = "0.4.2"
# Patched and checked as well; each in the environment of the release beside it.
OTHER_RELEASES = {"0.4.0": "0.4.2", "0.4.1": "0.4.2", "0.5.0": "0.5.1", "0.6.0": "0.6.2"}
REQUIREMENTS = Path("requirements")
OVERRIDES = str(REQUIREMENTS / "overrides.txt")
MAINTENANCE = ("python", "-m", "mtp_regression.maintenance")

ENVIRONMENT = {
    # No session looks a model up elsewhere.
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # Keep bytecode, wherever the variable comes from: without it a bridge is imported in 30 s instead of 13.
    "PYTHONDONTWRITEBYTECODE": "",
}


def install(session: nox.Session, requirements: str) -> None:
    """Install a pinned environment, then the kit itself, in place.

    `--no-deps` both times: the pins are complete, and leave out on purpose what a conversion does not need.
    """
    session.install("--no-deps", "-r", str(REQUIREMENTS / f"{requirements}.txt"))
    session.install("--no-deps", "-e", ".")
    session.env.update(ENVIRONMENT)


def install_release(session: nox.Session, release: str) -> None:
    """Install the environment of a release of Megatron-Bridge."""
    install(session, f"megatron-bridge-{OTHER_RELEASES.get(release, release)}")
    if release in OTHER_RELEASES:
        session.install("--no-deps", f"megatron-bridge=={release}")


def for_each(releases: Iterable[str]) -> Callable[[Callable[[nox.Session, str], None]], None]:
    """Make a session NAME-RELEASE of a function NAME_release for each release, which its docstring names."""

    def make(function: Callable[[nox.Session, str], None]) -> None:
        for release in releases:

            def run(session: nox.Session, release: str = release) -> None:
                function(session, release)

            run.__doc__ = str(function.__doc__).format(release=release)
            nox.session(name=function.__name__.replace("_release", f"-{release}"), python=PYTHON)(run)

    return make


def run_roundtrip(session: nox.Session, release: str) -> None:
    """Run the round trip with a release, into a report of its own unless it is the default release."""
    install_release(session, release)
    suffix = "" if release == DEFAULT_RELEASE else f"-{release}"
    session.run("mtpkit", "roundtrip", "--report", f"reports/roundtrip{suffix}.json", *session.posargs)


@nox.session(python=PYTHON)
def roundtrip(session: nox.Session) -> None:
    """Take both MTP layouts through the newest Megatron-Bridge, on CPU ranks, and compare every byte."""
    run_roundtrip(session, DEFAULT_RELEASE)


@for_each(RELEASES)
def roundtrip_release(session: nox.Session, release: str) -> None:
    """The round trip with Megatron-Bridge {release}; `-- --patched` applies the patch."""
    run_roundtrip(session, release)


@for_each(RELEASES)
def tests_release(session: nox.Session, release: str) -> None:
    """The tests that hold for one release of Megatron-Bridge, with {release}."""
    install_release(session, release)
    session.run("pytest", "regression/tests/releases", *session.posargs)


@nox.session(python=PYTHON)
def tests(session: nox.Session) -> None:
    """Run the tests with the newest Megatron-Bridge, then those of the other releases with each.

    Without arguments the branches that they cover are measured, in subprocesses and ranks too.
    """
    install_release(session, DEFAULT_RELEASE)
    if session.posargs:
        session.run("pytest", "-n", "auto", *session.posargs)
    else:
        session.run("coverage", "erase")
        session.run("coverage", "run", "-m", "pytest", "-n", "auto")
        session.run("coverage", "combine", "--quiet")
        session.run("coverage", "report")
        for release in RELEASES:
            if release != DEFAULT_RELEASE:
                session.notify(f"tests-{release}")


@nox.session(python=OLDEST_PYTHON)
def light(session: nox.Session) -> None:
    """Run the tests of generator and patch on the oldest Python, without torch."""
    install(session, "light")
    session.run("pytest", "fixtures/tests", "bridge_patch/tests", *session.posargs)


@nox.session(python=[OLDEST_PYTHON, PYTHON])
@nox.parametrize("releases", ["oldest", "newest"])
def stability(session: nox.Session, releases: str) -> None:
    """Generate the same bytes under the oldest and the newest Python and numpy that the kit allows."""
    install(session, "light")
    if releases == "oldest":
        session.install("--no-deps", "-r", str(REQUIREMENTS / "oldest.txt"))
    session.run("python", "-c", "import numpy, sys; print('numpy', numpy.__version__, 'python', sys.version)")
    tests = ("test_mtp_manifest", "test_values", "test_fp8", "test_mtp_random")
    session.run("pytest", *(f"fixtures/tests/{name}.py" for name in tests), *session.posargs)


@nox.session(python=PYTHON)
def known_bad(session: nox.Session) -> None:
    """Show that 0.4.2 fails packed MTP experts, and that the patch mends it, over the grid."""
    install_release(session, KNOWN_BAD_RELEASE)
    report = "reports/known-bad.json"
    session.run("mtpkit", "roundtrip", "--report", report, success_codes=[1])
    session.run(*MAINTENANCE, "known-bad", report)
    session.run("mtpkit", "roundtrip", "--patched", "--report", "reports/known-bad-patched.json")


@nox.session(python=PYTHON)
@nox.parametrize("release", [DEFAULT_RELEASE, KNOWN_BAD_RELEASE])
def coverage(session: nox.Session, release: str) -> None:
    """Prove on the published dimensions that every key is taken and every parameter filled, within limits."""
    install_release(session, release)
    session.run(*MAINTENANCE, "coverage-limits", *session.posargs)


@for_each((*RELEASES, *OTHER_RELEASES))
def cases_release(session: nox.Session, release: str) -> None:
    """Every scenario on Megatron-Bridge {release}; `-- --update` renews what is known."""
    install_release(session, release)
    session.run(*MAINTENANCE, "cases", *session.posargs)


@nox.session(venv_backend="none")
def cases(session: nox.Session) -> None:
    """Run every scenario on three releases, as they are and patched, and compare with docs/cases.md."""
    for release in RELEASES:
        session.notify(f"cases-{release}", session.posargs)


@nox.session(python=PYTHON)
def patched_grid(session: nox.Session) -> None:
    """Take what the patch adds through all parallel layouts of the main job."""
    install_release(session, DEFAULT_RELEASE)
    session.run(*MAINTENANCE, "patched-grid", *session.posargs)


@nox.session(python=PYTHON)
def fuzz(session: nox.Session) -> None:
    """Run the readers of strangers' files on bytes that atheris makes up, 60 seconds each."""
    install(session, "light")
    session.install("--no-deps", "-r", str(REQUIREMENTS / "fuzz.txt"))
    session.run(*MAINTENANCE, "fuzz", *session.posargs)


@nox.session(python=PYTHON)
def bench(session: nox.Session) -> None:
    """Time the generator, and then a round trip, beside the alternatives; fails if a limit is missed."""
    install_release(session, DEFAULT_RELEASE)
    session.run(*MAINTENANCE, "bench-generate", *session.posargs)
    session.run(*MAINTENANCE, "bench-roundtrip")


@nox.session(python=PYTHON)
def gpu_roundtrip(session: nox.Session) -> None:
    """Run the round trip with NCCL and the real TransformerEngine, as many cells as the GPUs allow."""
    if not _gpus():
        session.error(
            "gpu_roundtrip needs an NVIDIA GPU with its driver (nvidia-smi) and finds none; "
            "`nox -s roundtrip` runs the same cases on the CPU"
        )
    if _cuda_toolkit() is None:
        session.error(
            "gpu_roundtrip builds TransformerEngine and needs a CUDA 13 toolkit (nvcc); "
            "`nox -s roundtrip` runs the same cases on the CPU"
        )
    install_release(session, DEFAULT_RELEASE)
    install_transformer_engine(session)
    options = ["--device", "cuda", "--time-limit", "600", "--report", "reports/gpu_roundtrip.json"]
    session.run("mtpkit", "roundtrip", *options, *session.posargs)


@nox.session(python=PYTHON)
def gpu_check(session: nox.Session) -> None:
    """Make ready, or run, the check for a GPU that is lent for minutes: docs/gpu.md."""
    install_release(session, DEFAULT_RELEASE)
    session.install("pip")  # uv makes no wheels of what it finds
    session.run(*MAINTENANCE, "gpu-check", *session.posargs)


@nox.session(python=PYTHON)
def te_parity(session: nox.Session) -> None:
    """Build TransformerEngine, and show that the stand-in has its parameters; needs no GPU, takes minutes."""
    if _cuda_toolkit() is None:
        session.error("te_parity builds TransformerEngine and needs a CUDA 13 toolkit (nvcc), but no GPU")
    install_release(session, DEFAULT_RELEASE)
    install_transformer_engine(session)
    session.run(*MAINTENANCE, "te-parity", *session.posargs)


def install_transformer_engine(session: nox.Session) -> None:
    """Compile TransformerEngine for the environment's PyTorch, and fail if it cannot be imported."""
    site = session.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", silent=True)
    includes = sorted(str(path) for path in Path(str(site).strip()).glob("nvidia/*/include"))
    environment = {
        "CPLUS_INCLUDE_PATH": os.pathsep.join(includes),
        "CUDA_HOME": str(_cuda_toolkit()),
        "MAX_JOBS": os.environ.get("MAX_JOBS", str(os.cpu_count())),  # a compiler takes up to 2 GB
        "NVTE_PYTORCH_FORCE_BUILD": "TRUE",  # or it looks for a wheel outside of the package registry
    }
    pins = str(REQUIREMENTS / "transformer-engine.txt")
    session.install("--no-deps", "--no-build-isolation", "-r", pins, env=environment)
    # Or the stand-in would step in. After torch, which has loaded the CUDA libraries that it links to.
    session.run("python", "-c", "import torch, transformer_engine.pytorch")


def _cuda_toolkit() -> Path | None:
    """Find the CUDA toolkit: that of CUDA_HOME, of the nvcc on the path, or the one at its usual place.

    An nvcc on the path may be a script that calls another, so a toolkit is what has the headers beside it.
    """
    nvcc = shutil.which("nvcc")
    homes = (os.environ.get("CUDA_HOME"), nvcc and Path(nvcc).resolve().parent.parent, "/usr/local/cuda")
    parts = ("bin/nvcc", "include/cuda_runtime.h")
    return next(
        (Path(home) for home in homes if home and all(Path(home, part).exists() for part in parts)), None
    )


def _gpus() -> list[str]:
    """List the machine's NVIDIA GPUs, a line each."""
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)  # noqa: S607
    return listed.stdout.splitlines() if listed.returncode == 0 else []


@nox.session(python=PYTHON)
def lint(session: nox.Session) -> None:
    """Check style, formatting, types, and which room imports from which."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    for tests in ("fixtures/tests", "bridge_patch/tests", "regression/tests"):
        session.run("mypy", tests)  # each has a conftest of its own
    session.run("lint-imports", "--no-cache")
    session.run(*MAINTENANCE, "map")


@nox.session(python=PYTHON)
def lock(session: nox.Session) -> None:
    """Resolve the environments again and pin them in requirements/ (posargs: such as --upgrade)."""
    session.install("uv")
    kit_and_tests = ("pyproject.toml", "--group", "pyproject.toml:test")
    for release in RELEASES:
        compile_requirements(session, f"megatron-bridge-{release}", *kit_and_tests, "--override", OVERRIDES)
    compile_requirements(session, "light", *kit_and_tests, python=OLDEST_PYTHON)
    oldest = ("pyproject.toml", "--resolution", "lowest-direct")
    compile_requirements(session, "oldest", *oldest, python=OLDEST_PYTHON)
    compile_requirements(session, "lint", "pyproject.toml")
    compile_requirements(session, "fuzz")
    # TransformerEngine goes on top of the default release's environment, and changes these pins alone.
    pins = (REQUIREMENTS / f"megatron-bridge-{DEFAULT_RELEASE}.txt").read_text(encoding="utf-8")
    beside = Path(session.create_tmp(), "constraints.txt")
    beside.write_text(
        re.sub(r"^nvidia-(cudnn-frontend|cutlass-dsl.*)==.*$", "", pins, flags=re.MULTILINE), encoding="utf-8"
    )
    compile_requirements(session, "transformer-engine", "--constraint", str(beside), "--no-annotate")


def compile_requirements(session: nox.Session, name: str, *options: str, python: str = PYTHON) -> None:
    """Pin what requirements/NAME.in asks for in requirements/NAME.txt; no addresses are written."""
    session.run(
        *("uv", "pip", "compile", str(REQUIREMENTS / f"{name}.in"), *options),
        *("--output-file", str(REQUIREMENTS / f"{name}.txt"), "--python-version", python),
        *("--no-emit-index-url", "--no-emit-find-links", "--no-header", "--quiet", *session.posargs),
    )
