# /// script
# requires-python = ">=3.8"
# ///
# By this, `uv run noxfile.py` needs nothing of the project to start.
"""Sessions: `python3 noxfile.py -l` lists them; `tests` and `roundtrip` are the two that the README names."""

import os
import runpy
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

if __name__ == "__main__":  # started by a Python that need not have nox
    runpy.run_path(str(Path(__file__).parent / "requirements" / "bootstrap.py"), run_name="__main__")

import nox

sys.path.insert(0, str(Path(__file__).parent))  # however nox was started

from requirements.adapters import conformance_sessions
from requirements.cuda import cuda_toolkit, gpus, install_transformer_engine
from requirements.lock import pin_all

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests", "lint"]
# The generator and the patch run on all; Megatron-Bridge needs >=3.12,<3.13.
OLDEST_PYTHON, PYTHON = nox.project.python_versions(nox.project.load_toml("pyproject.toml"))
ENVIRONMENTS = runpy.run_path("bridge_patch/mtp_bridge_patch/releases.py")["ENVIRONMENTS"]
RELEASES = tuple(release for release, environment in ENVIRONMENTS.items() if release == environment)
KNOWN_BAD_RELEASE, DEFAULT_RELEASE = RELEASES[0], RELEASES[-1]
REQUIREMENTS = Path("requirements")
MAINTENANCE = ("python", "-m", "mtp_regression.maintenance")

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # Keep bytecode, wherever the variable comes from: without it a bridge is imported in 30 s instead of 13.
    "PYTHONDONTWRITEBYTECODE": "",
}


def install(session: nox.Session, *names: str) -> None:
    """Install a pinned environment, complete with what goes on top (`--no-deps`), then the kit, in place."""
    session.install("--no-deps", *(f"-r{REQUIREMENTS}/{name}.txt" for name in names))
    session.install("--no-deps", "-e", ".")
    session.env.update(ENVIRONMENT)


def install_release(session: nox.Session, release: str) -> None:
    """Install the environment of a release of Megatron-Bridge."""
    install(session, f"megatron-bridge-{ENVIRONMENTS[release]}")
    if release not in RELEASES:
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
    report = f"reports/roundtrip-{release}.json".replace(f"-{DEFAULT_RELEASE}", "")
    session.run("mtpkit", "roundtrip", "--report", report, *session.posargs)


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
    session.run("pytest", "-n", "auto", "regression/tests/releases", *session.posargs)


@nox.session(python=PYTHON)
def tests(session: nox.Session) -> None:
    """Run the tests with the newest Megatron-Bridge, then those of each release."""
    install_release(session, DEFAULT_RELEASE)
    session.run("pytest", "-n", "auto", *(session.posargs or ["--durations=60"]))
    if not session.posargs:
        for release in RELEASES[:-1]:
            session.notify(f"tests-{release}")


@nox.session(python=PYTHON)
def line_coverage(session: nox.Session) -> None:
    """Measure which lines the tests run, ranks' too; a fifth slower than `tests`."""
    install_release(session, DEFAULT_RELEASE)
    for step in ("erase", "run -m pytest -n auto", "combine --quiet", "report"):
        session.run("coverage", *step.split(), *(session.posargs if "pytest" in step else ()))


@nox.session(python=OLDEST_PYTHON)
def light(session: nox.Session) -> None:
    """Run the tests of generator, patch and suite on the oldest Python, without torch."""
    install(session, "light")
    names = ("mtp_conformance", "mtp_conformance_declared", "page", "page_content")
    suite = (f"regression/tests/test_{name}.py" for name in names)
    session.run("pytest", "-n", "auto", "fixtures/tests", "bridge_patch/tests", *suite, *session.posargs)


@nox.session  # `light` has the fourth, the oldest Python with the newest numpy
@nox.parametrize("python,releases", [(OLDEST_PYTHON, "oldest"), (PYTHON, "oldest"), (PYTHON, "newest")])
def stability(session: nox.Session, releases: str) -> None:
    """Generate the same bytes under the oldest and the newest Python and numpy that the kit allows."""
    install(session, "light")
    if releases == "oldest":
        session.install("--no-deps", "-r", str(REQUIREMENTS / "oldest.txt"))
    tests = ("mtp_manifest", "values", "specials", "fp8", "mtp_random")
    session.run("pytest", *(f"fixtures/tests/test_{name}.py" for name in tests), *session.posargs)


@nox.session(python=PYTHON)
def known_bad(session: nox.Session) -> None:
    """Show that 0.4.2 fails packed MTP experts, and that the patch mends it, over the grid."""
    install_release(session, KNOWN_BAD_RELEASE)
    words = ["--grid=full", *(f"--stage={stage}" for stage in ("native", "stream", "saved"))]
    session.run("mtpkit", "roundtrip", *words, "--report", "reports/known-bad.json", success_codes=[1])
    session.run(*MAINTENANCE, "known-bad", "reports/known-bad.json")
    session.run("mtpkit", "roundtrip", *words, "--patched", "--report", "reports/known-bad-patched.json")


@nox.session(python=PYTHON)
@nox.parametrize("release", [DEFAULT_RELEASE, KNOWN_BAD_RELEASE])
def coverage(session: nox.Session, release: str) -> None:
    """Prove on the published dimensions that every key is taken and every parameter filled, within limits."""
    install_release(session, release)
    session.run(*MAINTENANCE, "coverage-limits", *session.posargs)


def on_releases(name: str, about: str) -> None:
    """Make a session NAME-RELEASE of one of the maintainers' jobs for each release, and NAME of three."""

    def on_release(session: nox.Session, release: str) -> None:
        install_release(session, release)
        session.run(*MAINTENANCE, name, *session.posargs)

    on_release.__name__, on_release.__doc__ = f"{name}_release", about
    for_each(ENVIRONMENTS)(on_release)

    def run(session: nox.Session) -> None:
        for release in RELEASES:
            session.notify(f"{name}-{release}", session.posargs)

    run.__doc__ = about.format(release=", ".join(RELEASES))
    nox.session(name=name, venv_backend="none")(run)


on_releases("cases", "Scenarios on Megatron-Bridge {release}, as it is and patched; `-- --update` renews.")
on_releases("findings", "Scripts and patches of findings on Megatron-Bridge {release}; `-- 12` takes one.")
on_releases("forward", "Logits of models, layouts and fields of config.json on Megatron-Bridge {release}.")


def job(name: str, about: str, *environment: str) -> None:
    """Make a session of one of the maintainers' jobs, in an environment: if none, the default release's."""

    def run(session: nox.Session) -> None:
        install(session, *(environment or (f"megatron-bridge-{DEFAULT_RELEASE}",)))
        session.run(*MAINTENANCE, name, *session.posargs)

    run.__doc__ = about
    nox.session(name=name.replace("-", "_"), python=PYTHON)(run)


job("patched-grid", "Take what the patch adds through all parallel layouts of the main job.")
job("folders", "Read a checkpoint in every folder that people have: docs/folders.md.")
job("soak", "Run drawn round trips with drawn failures: the same failure has the same verdict.")
job("deferred", "See what a conversion imports and does not use: what may be deferred.")
job("bench", "What it costs: docs/benchmarks.md.", f"megatron-bridge-{DEFAULT_RELEASE}", "bench")
job("demo", "What unloaded MTP experts do to training.", f"megatron-bridge-{KNOWN_BAD_RELEASE}", "demo")
job("fuzz", "Run the readers of files on bytes that atheris makes up, 60 seconds each.", "light", "fuzz")
job("page", "The HTML page in headless Chromium, and its pictures in docs/images.", "light", "page")
conformance_sessions(install, python=PYTHON)


@nox.session(python=PYTHON)
def gpu_roundtrip(session: nox.Session) -> None:
    """Compare the round trip on GPUs with the CPU's; with --no-venv in the environment that is there."""
    if session.venv_backend == "none":
        folders = [str(Path(folder).resolve()) for folder in ("fixtures", "bridge_patch", "regression")]
        paths = os.pathsep.join(filter(None, [*folders, os.environ.get("PYTHONPATH", "")]))
        session.env.update(ENVIRONMENT | {"PYTHONPATH": paths})
    else:
        if not gpus():
            session.error("gpu_roundtrip needs a GPU with its driver; `nox -s roundtrip` needs neither")
        if cuda_toolkit() is None:
            session.error("gpu_roundtrip builds TransformerEngine: it needs a CUDA 13 toolkit, or --no-venv")
        install_release(session, DEFAULT_RELEASE)
        install_transformer_engine(session)
    session.run(*MAINTENANCE, "gpu-roundtrip", *session.posargs)


@nox.session(python=PYTHON)
def gpu_check(session: nox.Session) -> None:
    """Make ready, or run, the check for a GPU that is lent for minutes: docs/gpu.md."""
    install_release(session, DEFAULT_RELEASE)
    session.install("pip")  # uv makes no wheels of what it finds
    session.run(*MAINTENANCE, "gpu-check", *session.posargs)


@nox.session(python=PYTHON)
def te_parity(session: nox.Session) -> None:
    """Build TransformerEngine, and show that the stand-in has its parameters; needs no GPU, takes minutes."""
    if cuda_toolkit() is None:
        session.error("te_parity builds TransformerEngine and needs a CUDA 13 toolkit (nvcc), but no GPU")
    install_release(session, DEFAULT_RELEASE)
    install_transformer_engine(session)
    session.run(*MAINTENANCE, "te-parity", *session.posargs)


@nox.session(python=PYTHON)
def lint(session: nox.Session) -> None:
    """Check style, formatting, types, and which room imports from which."""
    install(session, "lint")
    tests = [f"mypy {part}/tests" for part in ("fixtures", "bridge_patch", "regression")]  # conftests apart
    for command in ("ruff check .", "ruff format --check .", "mypy", *tests, "lint-imports --no-cache"):
        session.run(*command.split())
    session.run(*MAINTENANCE, "map")


@nox.session(python=PYTHON)
def lock(session: nox.Session) -> None:
    """Resolve the environments again and pin them in requirements/ (posargs: such as --upgrade)."""
    pin_all(session, RELEASES, python=PYTHON, oldest_python=OLDEST_PYTHON)
