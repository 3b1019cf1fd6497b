"""`python3 noxfile.py`, the first line of the README, on machines that are not like this one.

`.ci/run` starts it for real. Here machines, Pythons and uv are faked, and nothing is installed.
"""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

KIT = Path(__file__).parents[2]
FILES = ("noxfile.py", "requirements/bootstrap.py")

# Notes what it is asked and where it looks, and makes a Python that prints its arguments.
UV = """#!/bin/sh
printf '%s\\n' "$*" >> "$0.asked"
if [ "$1" = venv ]; then
    printf '%s' "$PATH" > "$0.path"
    for folder; do :; done
    mkdir -p "$folder/bin"
    printf '#!/bin/sh\\nprintf "%%s|" "$UV" "$@"' > "$folder/bin/python"
    chmod +x "$folder/bin/python"
fi
"""

GENERATOR = "the generator needs neither: `pip install .`, then `mtpkit generate`."

FirstLine = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """A clone in a folder with a space in its name."""
    folder = tmp_path / "a kit"
    for file in FILES:
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(KIT / file, target)
    return folder


@pytest.fixture
def first_line(kit: Path, tmp_path: Path) -> FirstLine:
    """Run `python noxfile.py -s tests` in the clone, after `fake`; uv is there, or given by `uv run`."""

    def run(fake: str = "", uv: str = "", given: bool = False) -> subprocess.CompletedProcess[str]:
        site = tmp_path / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(f"import platform, sys\n{fake}\n")
        environment = {**os.environ, "PYTHONPATH": str(site), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        for name in ("PYENV_ROOT", "UV"):
            environment.pop(name, None)
        if uv:
            script = uv_script(kit, given)
            script.parent.mkdir(parents=True)
            script.write_text(uv)
            script.chmod(0o700)
            environment |= {"UV": str(script)} if given else {}
        command = [sys.executable, "noxfile.py", "-s", "tests"]
        return subprocess.run(
            command, cwd=kit, env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    return run


def uv_script(kit: Path, given: bool = False) -> Path:
    """Say where the scripts that stand for uv are."""
    return kit / "given" / "uv" if given else kit / ".nox" / "bootstrap" / "uv" / "bin" / "uv"


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that a refused start prints, and check that it is all."""
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("system", "machine", "what_works"),
    [
        ("Darwin", "arm64", GENERATOR),
        ("Linux", "aarch64", GENERATOR),
        ("Windows", "AMD64", f"in WSL 2 they can run, and {GENERATOR}"),
    ],
)
def test_another_machine_is_told_what_works_there(
    first_line: FirstLine, system: str, machine: str, what_works: str
) -> None:
    fake = f"platform.system = lambda: {system!r}; platform.machine = lambda: {machine!r}"
    said = sentence(first_line(fake))
    assert said == f"The sessions need Linux on x86_64, and this is {system} on {machine}; {what_works}"


def test_an_old_python_is_told_so(first_line: FirstLine) -> None:
    said = sentence(first_line("sys.version_info = (3, 7, 17); platform.python_version = lambda: '3.7.17'"))
    assert said == "Python 3.8 or newer is needed to start, and this is 3.7.17."


@pytest.mark.parametrize("file", FILES)
def test_an_old_python_can_read_the_files(file: str) -> None:
    ast.parse((KIT / file).read_text(encoding="utf-8"), feature_version=(3, 7))


def test_without_venv_the_package_is_named(first_line: FirstLine, kit: Path) -> None:
    said = sentence(first_line("sys.modules['ensurepip'] = None"))
    assert "apt-get install python3-venv" in said
    assert "uv run noxfile.py" in said
    assert not (kit / ".nox").exists()


def test_without_python_3_12_the_search_and_its_end_are_told(first_line: FirstLine) -> None:
    uv = "#!/bin/sh\necho 'error: 3 retries'; echo '  cause: no network' >&2; exit 2\n"
    said = sentence(first_line(uv=uv))
    assert said == (
        "No Python 3.12 is found on PATH, in pyenv or in conda, nor can uv download it: cause: no network"
    )


@pytest.mark.parametrize("given", [False, True])
def test_nox_is_installed_and_started_with_one_uv(first_line: FirstLine, kit: Path, given: bool) -> None:
    uv = uv_script(kit, given)
    python = kit / ".nox" / "bootstrap" / "nox" / "bin" / "python"
    done = first_line(uv=UV, given=given)
    assert done.returncode == 0, done.stderr
    nox = ["-m", "nox", "--noxfile", str(kit / "noxfile.py"), "-s", "tests"]
    assert done.stdout.split("|")[:-1] == [str(uv), *nox]
    assert uv.with_suffix(".asked").read_text().splitlines() == [
        f"venv --allow-existing --python 3.12 {python.parents[1]}",
        f"pip install --python {python} --constraints {kit / 'requirements' / 'lint.txt'} nox",
    ]


def test_python_3_12_is_looked_for_in_pyenv_and_conda(
    first_line: FirstLine, kit: Path, tmp_path: Path
) -> None:
    pyenv, conda = tmp_path / ".pyenv" / "versions", tmp_path / "conda" / "envs" / "megatron"
    for version in ("3.11.7", "3.12.1"):
        (pyenv / version / "bin").mkdir(parents=True)
        (pyenv / version / "bin" / f"python{version.rpartition('.')[0]}").touch(0o700)
    (conda / "bin").mkdir(parents=True)
    (conda / "bin" / "python3.12").touch(0o700)
    (tmp_path / ".conda").mkdir()
    (tmp_path / ".conda" / "environments.txt").write_text(f"/gone\n{conda}\n")
    assert first_line(uv=UV).returncode == 0
    expected = [str(pyenv / "3.12.1" / "bin"), str(conda / "bin"), "/usr/bin", "/bin"]
    assert uv_script(kit).with_suffix(".path").read_text().split(":")[-len(expected) :] == expected


def test_nox_runs_on_the_newest_python_of_the_kit() -> None:
    project = tomllib.loads((KIT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pythons = [line.rpartition(" ")[2] for line in project["classifiers"] if ":: Python :: 3." in line]
    bootstrap = (KIT / "requirements" / "bootstrap.py").read_text(encoding="utf-8")
    assert f'\nPYTHON = "{pythons[-1]}"  #' in bootstrap
