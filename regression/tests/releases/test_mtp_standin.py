"""The stand-in of Megatron-Bridge, which fixes are tested on, has the signatures of the real release."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mtp_regression.ranks import run as ranks

pytestmark = pytest.mark.xdist_group("megatron")

HERE = Path(__file__).parent
PATCH_TESTS = HERE.parents[2] / "bridge_patch" / "tests"


@pytest.mark.usefixtures("main_job")  # its fork server serves here too
def test_mtp_standin_has_the_releases_signatures(
    release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.syspath_prepend(PATCH_TESTS)
    used = importlib.import_module("upstream_signatures")
    (real,) = ranks.run(
        used.signatures,
        world_size=1,
        time_limit=60,
        log_folder=tmp_path,
        preload=["mtp_regression.adapters.megatron_bridge"],
    )
    site = tmp_path / "site"
    importlib.import_module("standin_release").install(site, release)
    script = [sys.executable, "-I", "-S", str(used.__file__), str(site)]
    standin = json.loads(subprocess.run(script, capture_output=True, text=True, check=True).stdout)
    assert standin == real
    absent = {place.partition(":")[0] for place, found in real.items() if found == used.ABSENT}
    assert absent == ({used.TEXT.removesuffix(":")} if release.startswith("0.4.") else set())
