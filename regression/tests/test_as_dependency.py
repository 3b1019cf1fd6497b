"""The kit in somebody else's repository: a dependency, from a wheel, in an environment without a checkout."""

import ensurepip
import os
import re
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

pytestmark = pytest.mark.xdist_group("as a dependency")  # one environment for all

REPOSITORY = Path(__file__).parents[2]

FILES = {
    "pyproject.toml": """
        [project]
        name = "their-bridge"
        version = "1.0"
        dependencies = ["mtp-bridge-kit"]

        [tool.pytest.ini_options]
        addopts = ["-n2", "--strict-markers", "--strict-config", "-p", "no:cacheprovider"]
        pythonpath = ["src"]
        filterwarnings = ["error"]
        """,
    "src/their_bridge.py": """
        from mtp_regression.in_memory.bridge import InMemoryBridge

        class TheirBridge(InMemoryBridge):
            bridge = "theirs"
        """,
    "tests/test_theirs.py": """
        from their_bridge import TheirBridge

        from mtp_regression import BridgeConformance

        class TestTheirs(BridgeConformance):
            bridge = TheirBridge
            only = ("packed-ep2::native", "packed-ep2::stream", "fault-half-packed-tp1::*")

        def test_round_trip(roundtrip, qwen36_checkpoint):
            assert roundtrip(TheirBridge, qwen36_checkpoint, "tp2", stages=["saved"]).passed
        """,
    "tests/test_loader.py": """
        def test_loader(mtp_checkpoint):
            assert (mtp_checkpoint / "config.json").exists()

        def test_one(make_checkpoint):
            assert make_checkpoint("qwen3.6-35b-a3b", mtp_layers=2).is_dir()
        """,
    "tests/test_environment.py": """
        import sys
        from pathlib import Path

        import mtp_bridge_patch, mtp_checkpoint, mtp_fixtures, mtp_regression

        def test_kit_is_the_wheel():
            for package in (mtp_bridge_patch, mtp_checkpoint, mtp_fixtures, mtp_regression):
                assert Path(package.__file__).is_relative_to(sys.prefix)
            assert sys.modules["torch"] is None
        """,
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new environment with the kit, built and installed as from an index.

    What the kit depends on is what this environment has; torch cannot be imported.
    """
    folder = tmp_path_factory.mktemp("environment")
    (wheel,) = WheelBuilder(str(REPOSITORY)).build(directory=str(folder), versions=["standard"])
    environment = folder / "venv"
    venv.create(environment, symlinks=True)
    (site,) = environment.glob("lib/python*/site-packages")
    # Of a path in a .pth file other .pth files are not read, such as the one by which the checkout is found.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    (site / "sitecustomize.py").write_text("import sys; sys.modules['torch'] = None")
    (pip,) = Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl")
    install = ("-m", "pip", "install", "--no-index", "--no-deps", "--no-compile", "--ignore-installed", wheel)
    done = run(environment / "bin" / "python", *install, folder=folder, modules=pip)
    assert done.returncode == 0, done.stderr
    return environment / "bin"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody else's repository."""
    folder = tmp_path_factory.mktemp("theirs")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(line[8:] for line in text.splitlines()), encoding="utf-8")
    return folder


def run(
    program: Path, *words: object, folder: Path, modules: Path | str = ""
) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("COV", "MTPKIT"))
    }
    environment["PYTHONPATH"] = str(modules)
    command = [str(program), *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_their_tests(programs: Path, theirs: Path) -> None:
    """Fixtures, conformance class and round trips need no plugin named and no conftest.py."""
    done = run(programs / "python", "-m", "pytest", folder=theirs)
    assert re.search(r"^=+ 9 passed in", done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert "TestTheirs: not collected: forward: no logits" in done.stdout


def test_their_bridge_without_a_test_file(programs: Path, theirs: Path) -> None:
    words = (
        "-m",
        "pytest",
        "--mtp-bridge",
        "their_bridge:TheirBridge",
        "-k",
        "packed-ep2 and saved and not etp",
    )
    done = run(programs / "python", *words, folder=theirs)
    assert re.search(r"^=+ 1 passed in", done.stdout, re.MULTILINE), done.stdout + done.stderr


def test_their_command_line(programs: Path, theirs: Path) -> None:
    """The adapter is found in the working folder; the page's templates are in the wheel."""
    words = ("conformance", "their_bridge:TheirBridge", "--only", "packed-ep2::*", "--html", "page.html")
    done = run(programs / "mtpkit", *words, folder=theirs / "src")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 cells exact" in done.stdout
    assert (theirs / "src" / "reports" / "conformance.json").exists()
    assert "The cell is exact." in (theirs / "src" / "page.html").read_text(encoding="utf-8")
