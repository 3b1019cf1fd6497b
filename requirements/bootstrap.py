"""Start nox from nothing but a Python: `python3 noxfile.py -s tests`, or `uv run noxfile.py -s tests`.

uv goes into an environment of its own, finds or downloads Python 3.12, and makes one for nox with it.
Standard library only; any Python from 3.6 on can read this. What cannot work ends with one sentence.
"""

import os
import platform
import sys
from glob import glob
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE, STDOUT, run

PYTHON = "3.12"  # the one of the sessions that have Megatron-Bridge
ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".nox" / "bootstrap"


def main() -> None:
    """Refuse what cannot work, or become nox with the arguments of this command."""
    machine = f"{platform.system()} on {platform.machine()}"
    if machine != "Linux on x86_64":
        wsl = "in WSL 2 they can run, and " if platform.system() == "Windows" else ""
        generator = "the generator needs neither: `pip install .`, then `mtpkit generate`."
        sys.exit(f"The sessions need Linux on x86_64, and this is {machine}; {wsl}{generator}")
    if sys.version_info < (3, 8):  # noqa: UP036
        sys.exit(f"Python 3.8 or newer is needed to start, and this is {platform.python_version()}.")
    uv = os.environ.get("UV") or private_uv()
    os.environ["UV"] = uv  # for the sessions as well
    python = str(FOLDER / "nox" / "bin" / "python")
    if not Path(python).exists():
        attempt(
            f"No Python {PYTHON} is found on PATH, in pyenv or in conda, nor can uv download it",
            *(uv, "venv", "--allow-existing", "--python", PYTHON, str(FOLDER / "nox")),
            PATH=os.pathsep.join([*homes_of_python(), os.environ.get("PATH", os.defpath)]),
        )
    pins = str(ROOT / "requirements" / "lint.txt")
    attempt("uv cannot install nox", uv, "pip", "install", "--python", python, "--constraints", pins, "nox")
    os.execv(python, [python, "-m", "nox", "--noxfile", str(ROOT / "noxfile.py"), *sys.argv[1:]])  # noqa: S606


def private_uv() -> str:
    """Return the uv of a virtual environment that is made for it: nothing is installed anywhere else."""
    folder = FOLDER / "uv"
    uv = folder / "bin" / "uv"
    if not uv.exists():
        if not find_spec("ensurepip"):
            sys.exit(
                "This Python has no venv module: install it (Debian, Ubuntu: `apt-get install python3-venv`) "
                "or start with uv (`uv run noxfile.py`)."
            )
        attempt("venv makes no environment", sys.executable, "-m", "venv", "--clear", str(folder))
        pip = (str(folder / "bin" / "python"), "-I", "-m", "pip", "--disable-pip-version-check")
        attempt("pip cannot install uv; is there a network?", *pip, "install", "--no-user", "uv")
    return str(uv)


def homes_of_python() -> "list[str]":
    """Return the folders of this Python, pyenv and conda that have a Python 3.12.

    uv itself looks through PATH alone, and stops at pyenv's `python3.12` if pyenv has chosen another one.
    """
    user = Path(os.environ.get("HOME", "/"))
    pyenv = glob(f"{os.environ.get('PYENV_ROOT') or user / '.pyenv'}/versions/*")  # noqa: PTH207, may be barred
    conda = user / ".conda" / "environments.txt"
    environments = conda.read_text(encoding="utf-8").splitlines() if conda.exists() else []
    folders = [f"{home}/bin" for home in (sys.prefix, *pyenv, *environments)]
    return [folder for folder in folders if os.access(f"{folder}/python{PYTHON}", os.X_OK)]


def attempt(failure: str, *command: str, **environment: str) -> None:
    """Run a command silently, or end with the last line of what it said."""
    environment = {**os.environ, **environment}
    ran = run(command, env=environment, stdout=PIPE, stderr=STDOUT, text=True, check=False)
    if ran.returncode:
        sys.exit(f"{failure}: {(ran.stdout.strip() or 'no reason given').splitlines()[-1].strip()}")


if __name__ == "__main__":
    main()
