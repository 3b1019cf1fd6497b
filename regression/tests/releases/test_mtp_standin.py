"""The stand-in of Megatron-Bridge, which fixes are tested on, has the signatures of the real release."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import upstream_signatures

from mtp_regression.plugin import OnRanks

pytestmark = pytest.mark.megatron

STANDIN = Path(__file__).parents[3] / "bridge_patch" / "tests" / "standin_release.py"


def test_mtp_standin_has_the_releases_signatures(release: str, on_ranks: OnRanks, tmp_path: Path) -> None:
    (real,) = on_ranks(upstream_signatures.signatures)
    site = tmp_path / "site"
    runpy.run_path(str(STANDIN))["install"](site, release)
    script = [sys.executable, "-I", "-S", str(upstream_signatures.__file__), str(site)]
    standin = json.loads(subprocess.run(script, capture_output=True, text=True, check=True).stdout)
    assert standin == real
    absent = {place.partition(":")[0] for place, found in real.items() if found == upstream_signatures.ABSENT}
    # No bridges of text-only models until 0.5.0, and from then on no limit to tensor parallelism.
    gone = upstream_signatures.TEXT if release.startswith("0.4.") else upstream_signatures.PROVIDERS
    assert absent == {gone.removesuffix(":")}
