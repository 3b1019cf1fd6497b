"""Releases of Megatron-Bridge: those that are known, and the one that is installed, which is not imported."""

import re

_DISTRIBUTION = "megatron-bridge"

ENVIRONMENTS = {
    "0.4.0": "0.4.2",
    "0.4.1": "0.4.2",
    "0.4.2": "0.4.2",
    "0.5.0": "0.5.1",
    "0.5.1": "0.5.1",
    "0.6.0": "0.6.2",
    "0.6.2": "0.6.2",
}
"""Releases that the fixes have been checked on (`nox -s cases`), oldest first.

Each with the release whose pinned environment (`requirements/`) it is run in, and with which docs/cases.md
compares it. `noxfile.py` reads this table, and so runs this module without its package.
"""


def installed_release() -> str | None:
    """Return the release of Megatron-Bridge that is installed, "0.4.2" for example, or None."""
    # Costs more to import than the rest of this package together, and detection alone never needs it.
    from importlib import metadata

    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return None


def is_installed_before(release: str) -> bool:
    """Tell whether the installed Megatron-Bridge is one before ``release`` (such as "0.5.0"), or unknown."""
    return not is_at_least(installed_release() or "", release)


def public_release(version: str) -> str:
    """Return ``version`` without its local label: "0.4.2" for "0.4.2+build7", a rebuild of that release."""
    return version.partition("+")[0]


def is_at_least(version: str, release: str) -> bool:
    """Tell whether ``version`` is the final release ``release`` (such as "0.5.0") or comes after it.

    A pre-release of ``release`` itself ("0.5.0rc1") comes before it.
    """
    match = re.match(r"(\d+(?:\.\d+)*)(.*)", public_release(version))
    if match is None:
        return False
    numbers, wanted = (tuple(map(int, text.split("."))) for text in (match[1], release))
    final = match[2] == "" or match[2].startswith(".post")
    return numbers > wanted or (numbers == wanted and final)
