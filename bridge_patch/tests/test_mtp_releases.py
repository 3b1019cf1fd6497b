"""Which releases are patched, left alone and refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

import mtp_bridge_patch
from mtp_bridge_patch.patch import FIXES
from mtp_bridge_patch.releases import installed_release, is_at_least


@pytest.mark.parametrize("release", ["0.4.0", "0.4.1", "0.4.2", "0.4.2+local.1"])
def test_mtp_releases_with_every_failure(install_release: Callable[[str], Path], release: str) -> None:
    install_release(release)
    status = mtp_bridge_patch.apply()
    assert str(status) == f"megatron-bridge {release}: mtp-layout-switch applied; mtp-layout-check applied"
    assert mtp_bridge_patch.applied() == ("mtp-layout-switch", "mtp-layout-check")


@pytest.mark.parametrize("release", ["0.5.1", "0.6.2"])
def test_mtp_releases_with_one_fixed(install_release: Callable[[str], Path], release: str) -> None:
    install_release(release)
    assert str(mtp_bridge_patch.apply()) == (
        f"megatron-bridge {release}: mtp-layout-switch not needed: fixed upstream since 0.5.0; "
        "mtp-layout-check applied"
    )
    assert mtp_bridge_patch.applied() == ("mtp-layout-check",)


@pytest.mark.parametrize("release", ["0.5.0", "0.6.0rc1", "0.10.0", "1.0"])
def test_mtp_releases_that_were_not_checked(install_release: Callable[[str], Path], release: str) -> None:
    install_release(release)
    status = mtp_bridge_patch.apply()
    assert status.applied == ()
    assert str(status) == (
        f"megatron-bridge {release}: mtp-layout-switch not needed: fixed upstream since 0.5.0; "
        "mtp-layout-check not available: made for 0.4.0, 0.4.1, 0.4.2, 0.5.1, 0.6.2"
    )
    assert mtp_bridge_patch.applied() == ()


@pytest.mark.parametrize("release", ["0.3.1", "0.4.3", "0.4.2.post1", "0.4.0rc1", "0.5.0rc0", "unknown"])
def test_mtp_unknown_release(install_release: Callable[[str], Path], release: str) -> None:
    install_release(release)
    with pytest.raises(mtp_bridge_patch.UnsupportedRelease) as caught:
        mtp_bridge_patch.apply()
    assert str(caught.value) == (
        f"megatron-bridge {release} is not a known release: "
        "mtp-layout-switch is made for 0.4.0, 0.4.1, 0.4.2; "
        "mtp-layout-check is made for 0.4.0, 0.4.1, 0.4.2, 0.5.1, 0.6.2"
    )
    assert mtp_bridge_patch.applied() == ()


@pytest.mark.usefixtures("site")
def test_mtp_not_installed() -> None:
    assert installed_release() is None
    with pytest.raises(mtp_bridge_patch.UnsupportedRelease, match="megatron-bridge is not installed"):
        mtp_bridge_patch.apply()


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.5.0", True),
        ("0.5.0.post1", True),
        ("0.5.0+local", True),
        ("0.5.1.dev3", True),
        ("0.10", True),
        ("0.5.0rc1", False),
        ("0.5.0.dev1", False),
        ("0.4.9", False),
        ("main", False),
    ],
)
def test_is_at_least(version: str, expected: bool) -> None:
    assert is_at_least(version, "0.5.0") is expected


def test_every_fix_says_what_it_is() -> None:
    assert len({fix.id for fix in FIXES}) == len(FIXES)
    for fix in FIXES:
        assert fix.id.startswith("mtp-")
        assert fix.failure.endswith(".")
        assert fix.modules
        if fix.fixed_since is not None:
            assert not any(is_at_least(release, fix.fixed_since) for release in fix.releases)
