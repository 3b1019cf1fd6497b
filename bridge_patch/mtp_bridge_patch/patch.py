"""Switches the fixes that the installed Megatron-Bridge needs on and off."""

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType

from mtp_bridge_patch import layout_switch
from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.import_hook import after_import
from mtp_bridge_patch.releases import installed_release

FIXES: tuple[Fix, ...] = (layout_switch.FIX,)


@dataclass(frozen=True)
class Status:
    """What ``apply`` did. As a string it is one line to print.

    Attributes:
        release: The installed release of Megatron-Bridge.
        applied: Fixes that are on.
        not_needed: Fixes of failures that this release no longer has.
    """

    release: str | None
    applied: tuple[Fix, ...]
    not_needed: tuple[Fix, ...]

    def __str__(self) -> str:
        parts = [f"{fix.id} applied" for fix in self.applied]
        parts += [f"{fix.id} not needed: fixed upstream since {fix.fixed_since}" for fix in self.not_needed]
        return f"megatron-bridge {self.release}: {', '.join(parts)}"


@dataclass(frozen=True)
class _Applied:
    status: Status
    undo: ExitStack


_applied: _Applied | None = None


def apply() -> Status:
    """Patch Megatron-Bridge; nothing happens if it is patched already, or needs no patch.

    Megatron-Bridge is not imported. What is imported already is patched at once, the rest as soon as it is
    imported. Only this process is patched, and processes forked from it; one that is spawned patches itself.

    Returns:
        What is applied now and what was not needed.

    Raises:
        UnsupportedRelease: The installed release is not known, or none is installed.
    """
    global _applied
    if _applied is not None:
        return _applied.status
    release = installed_release()
    needed = tuple(fix for fix in FIXES if fix.is_needed(release))
    status = Status(release, needed, tuple(fix for fix in FIXES if fix not in needed))
    if needed:
        undo = ExitStack()
        try:
            for fix in needed:
                undo.callback(after_import(fix.module, functools.partial(_install, fix, undo)))
        except BaseException:
            undo.close()
            raise
        _applied = _Applied(status, undo)
    return status


def _install(fix: Fix, undo: ExitStack, module: ModuleType) -> None:
    undo.callback(fix.install(module))


def revert() -> None:
    """Put Megatron-Bridge back as it was before ``apply``; nothing happens if it is not patched."""
    global _applied
    if _applied is not None:
        _applied.undo.close()
        _applied = None


@contextmanager
def patched() -> Iterator[Status]:
    """Patch Megatron-Bridge inside a ``with`` block; afterwards it is as it was before, patched or not.

    Yields:
        What ``apply`` returned.

    Raises:
        UnsupportedRelease: As ``apply``.
    """
    before = _applied is not None
    status = apply()
    try:
        yield status
    finally:
        if before:
            apply()
        else:
            revert()


def applied() -> tuple[str, ...]:
    """Return the ids of the fixes that are on."""
    return () if _applied is None else tuple(fix.id for fix in _applied.status.applied)
