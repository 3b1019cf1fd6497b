"""Which releases are patched, left alone and refused."""

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

import mtp_bridge_patch
from mtp_bridge_patch.fix import Need
from mtp_bridge_patch.patch import FIXES
from mtp_bridge_patch.releases import installed_release, is_at_least
from mtp_bridge_patch.upstream.hooks import Hooks

V04 = ("0.4.0", "0.4.1", "0.4.2")
V05 = (*V04, "0.5.0", "0.5.1")
KNOWN = (*V05, "0.6.0", "0.6.2")
# Of each fix, in the order in which they are applied: the releases it is made for, and the one that mends it.
TABLE: dict[str, tuple[tuple[str, ...], str | None]] = {
    "errors-together": (KNOWN, None),
    "pinned-revision": (KNOWN, None),
    "fresh-index": (KNOWN, None),
    "text-only": (V04, "0.5.0"),
    "layer-types": (V05, "0.6.0"),
    "key-value-heads": (V04, "0.5.0"),
    "rope-scaling": (KNOWN, None),
    "merge-size": (KNOWN, None),
    "decoder-once": (KNOWN, None),
    "mtp-layout-check": (KNOWN, None),
    "config-check": (KNOWN, None),
    "mtp-any-layer": (KNOWN, None),
    "mtp-any-stage": (KNOWN, None),
    "mtp-off": (KNOWN, None),
    "mtp-expert-mappings": (KNOWN, None),
    "expert-numbers": (V04, "0.5.0"),
    "padded-vocabulary": (KNOWN, None),
    "contiguous-save": (V05, "0.6.0"),
    "tied-embeddings-vpp": (V05, "0.6.0"),
    "dtype-preserving-export": (KNOWN, None),
    "strict-load": (KNOWN, None),
    "saved-files": (KNOWN, None),
    "checkpoint-pipeline": (KNOWN, None),
    "saved-index": (KNOWN, None),
    "fp8-per-expert": (KNOWN, None),
    "config-only-export": (KNOWN, None),
}


def line(release: str, needs: dict[str, str]) -> str:
    """Return the line that says what becomes of each fix; those that are not in `needs` are applied."""
    parts = [f"{name} {needs.get(name, 'applied')}" for name in TABLE]
    return f"megatron-bridge {release}: {'; '.join(parts)}"


FIXED_IN_05 = dict.fromkeys(
    ("text-only", "key-value-heads", "expert-numbers"), "not needed: fixed upstream since 0.5.0"
)
FIXED_IN_06 = dict.fromkeys(
    ("layer-types", "contiguous-save", "tied-embeddings-vpp"), "not needed: fixed upstream since 0.6.0"
)


@pytest.mark.parametrize("release", ["0.4.0", "0.4.1", "0.4.2", "0.4.2+local.1"])
def test_mtp_releases_with_every_failure(install_release: Callable[[str], Path], release: str) -> None:
    install_release(release)
    assert str(mtp_bridge_patch.apply()) == line(release, {})
    assert mtp_bridge_patch.applied() == tuple(TABLE)


@pytest.mark.parametrize(
    ("release", "fixed"),
    [
        *((release, FIXED_IN_05) for release in ("0.5.0", "0.5.1")),
        *((release, {**FIXED_IN_05, **FIXED_IN_06}) for release in ("0.6.0", "0.6.2")),
    ],
)
def test_mtp_releases_with_some_fixed(
    install_release: Callable[[str], Path], release: str, fixed: dict[str, str]
) -> None:
    install_release(release)
    assert str(mtp_bridge_patch.apply()) == line(release, fixed)
    assert mtp_bridge_patch.applied() == tuple(name for name in TABLE if name not in fixed)


@pytest.mark.parametrize(
    ("release", "fixed"),
    [
        ("0.5.2", FIXED_IN_05),
        ("0.6.0rc1", FIXED_IN_05),
        ("0.10.0", {**FIXED_IN_05, **FIXED_IN_06}),
        ("1.0", {**FIXED_IN_05, **FIXED_IN_06}),
    ],
)
def test_mtp_releases_that_were_not_checked(
    install_release: Callable[[str], Path], release: str, fixed: dict[str, str]
) -> None:
    install_release(release)
    status = mtp_bridge_patch.apply()
    assert status.applied == ()
    others = {name: f"not available: made for {', '.join(made)}" for name, (made, _) in TABLE.items()}
    assert str(status) == line(release, {**others, **fixed})
    assert mtp_bridge_patch.applied() == ()


@pytest.mark.parametrize("release", ["0.3.1", "0.4.3", "0.4.2.post1", "0.4.0rc1", "0.5.0rc0", "unknown"])
def test_mtp_unknown_release(install_release: Callable[[str], Path], release: str) -> None:
    install_release(release)
    with pytest.raises(mtp_bridge_patch.UnsupportedRelease) as caught:
        mtp_bridge_patch.apply()
    made_for = "; ".join(f"{name} is made for {', '.join(made)}" for name, (made, _) in TABLE.items())
    assert str(caught.value) == f"megatron-bridge {release} is not a known release: {made_for}"
    assert mtp_bridge_patch.applied() == ()


# Of the releases below, those that come with or after one that mends something.
MENDED: dict[str | None, tuple[str, ...]] = {
    "0.5.0": ("0.5.0", "0.5.1", "0.5.2", "0.6.0rc1", "0.6.0", "0.6.2", "0.7.0"),
    "0.6.0": ("0.6.0", "0.6.2", "0.7.0"),
}


def test_mtp_need_of_every_release() -> None:
    assert [fix.id for fix in FIXES] == list(TABLE)
    for fix in FIXES:
        made, fixed_since = TABLE[fix.id]
        assert (fix.releases, fix.fixed_since) == (made, fixed_since)
        for release in ("0.3.1", *KNOWN, "0.4.3", "0.5.0rc1", "0.5.2", "0.6.0rc1", "0.7.0"):
            if release in made:
                expected = Need.APPLIES
            elif release in MENDED.get(fixed_since, ()):
                expected = Need.NOT_NEEDED
            else:
                expected = Need.NOT_AVAILABLE
            assert (release, fix.need(release)) == (release, expected), fix.id


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
        assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)+", fix.id)
        assert fix.failure.endswith(".")
        assert fix.modules or any(Hooks.of([fix], hook.name) for hook in fields(Hooks))
        if fix.fixed_since is not None:
            assert not any(is_at_least(release, fix.fixed_since) for release in fix.releases)
