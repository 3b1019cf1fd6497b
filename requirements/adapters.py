"""The bridges with an adapter that ships with the kit, each in an environment; for `noxfile.py`."""

from collections.abc import Callable

import nox

ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "mcore-bridge-1.1.2": ("packed-*", "per-expert-*"),  # what changed since is in these
    "mcore-bridge-1.6.5": (),
    "nemo-automodel-0.5.0": (),
    "nemo-automodel-0.7.0": (),
    "transformers-5.3.0": (),
    "transformers-5.24.0": (),
}
"""Patterns of the checks that are taken, none for all, by the names of the files of requirements/, without
suffix: the adapter's name and the release."""

READERS = ("vllm-0.32.0", "sglang-0.5.23")
"""Environments of 8 to 10 GB each: engines that read checkpoints. They are taken by name alone."""


def conformance_sessions(install: Callable[[nox.Session, str], None], *, python: str) -> None:
    """Make a session conformance-ENVIRONMENT of each, and `conformance` of all but the readers.

    Args:
        install: Installs an environment, and the kit.
        python: The Python of the environments.
    """
    for environment in (*ENVIRONMENTS, *READERS):

        def run(session: nox.Session, environment: str = environment) -> None:
            install(session, environment)
            adapter, report = environment.rpartition("-")[0], f"reports/conformance-{environment}.json"
            update = [option for option in session.posargs if option == "--update"]
            asked = [pattern for pattern in session.posargs if pattern not in update]
            only = [f"--only={pattern}" for pattern in asked or ENVIRONMENTS.get(environment, ())]
            session.run("mtpkit", "conformance", adapter, *only, "--report", report)
            session.run("python", "-m", "mtp_regression.maintenance", "board", report, *update)
            if environment not in READERS:  # whose findings have no scripts
                session.run("python", "-m", "mtp_regression.maintenance", "findings", *update)

        run.__doc__ = (
            f"The suite, and findings, on {environment}, as they are known; `-- --update`, `-- 'packed-*'`."
        )
        nox.session(name=f"conformance-{environment}", python=python)(run)

    def conformance(session: nox.Session) -> None:
        """Run the whole suite on every other bridge, each in an environment of its own."""
        for environment in ENVIRONMENTS:
            session.notify(f"conformance-{environment}", session.posargs)

    nox.session(name="conformance", venv_backend="none")(conformance)
