"""Switches the fixes that the installed Megatron-Bridge needs on and off."""

import functools
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType

from mtp_bridge_patch.errors import UnsupportedRelease
from mtp_bridge_patch.fix import Fix, Install, Need
from mtp_bridge_patch.fixes import (
    checkpoint_pipeline,
    expert_mappings,
    expert_numbers,
    layout_check,
    padded_vocabulary,
    stored_dtypes,
    strict_load,
    text_only,
    tied_embeddings,
)
from mtp_bridge_patch.fixes.config_only import export
from mtp_bridge_patch.fixes.errors_together import fix as errors_together
from mtp_bridge_patch.fixes.fp8 import fp8
from mtp_bridge_patch.fixes.model import (
    config_check,
    decoder_once,
    key_value_heads,
    layer_types,
    merge_size,
    rope_scaling,
)
from mtp_bridge_patch.fixes.mtp import any_layer, any_stage, off
from mtp_bridge_patch.fixes.reading import fresh_index, pinned_revision
from mtp_bridge_patch.fixes.saving import contiguous_save, saved_files, saved_index
from mtp_bridge_patch.import_hook import after_import
from mtp_bridge_patch.releases import installed_release
from mtp_bridge_patch.upstream.saving import INSTALLERS

FIXES: tuple[Fix, ...] = (
    errors_together.FIX,
    pinned_revision.FIX,
    fresh_index.FIX,
    text_only.FIX,
    layer_types.FIX,
    key_value_heads.FIX,
    rope_scaling.FIX,
    merge_size.FIX,
    decoder_once.FIX,
    layout_check.FIX,
    config_check.FIX,
    any_layer.FIX,
    any_stage.FIX,
    off.FIX,
    expert_mappings.FIX,
    expert_numbers.FIX,
    padded_vocabulary.FIX,
    contiguous_save.FIX,
    tied_embeddings.FIX,
    stored_dtypes.FIX,
    strict_load.FIX,
    saved_files.FIX,
    checkpoint_pipeline.FIX,
    saved_index.FIX,
    fp8.FIX,
    export.FIX,
)
"""All fixes, in the order in which their hooks run."""


@dataclass(frozen=True)
class Status:
    """What ``apply`` did. As a string it is one line to print.

    Attributes:
        release: The installed release of Megatron-Bridge.
        needs: The fixes that were asked for, and what the release has to do with each.
    """

    release: str
    needs: Mapping[Fix, Need]

    @property
    def applied(self) -> tuple[Fix, ...]:
        """Fixes that are on."""
        return tuple(fix for fix, need in self.needs.items() if need is Need.APPLIES)

    def __str__(self) -> str:
        parts = [
            f"{fix.id} {'applied' if need is Need.APPLIES else fix.about(need)}"
            for fix, need in self.needs.items()
        ]
        return f"megatron-bridge {self.release}: {'; '.join(parts)}"


@dataclass(frozen=True)
class _Applied:
    status: Status
    undo: ExitStack


_applied: _Applied | None = None


def apply(*, only: Collection[str] | None = None, skip: Collection[str] = ()) -> Status:
    """Patch Megatron-Bridge with the fixes that the installed release needs.

    Nothing happens if it is patched with the same fixes already. Megatron-Bridge is not imported. What is
    imported already is patched at once, the rest as soon as it is imported. Only this process is patched, and
    processes forked from it; one that is spawned patches itself.

    Args:
        only: Ids of the fixes to apply; None takes all.
        skip: Ids of fixes to leave out.

    Returns:
        What is applied now, and what is not needed or not available.

    Raises:
        UnsupportedRelease: Megatron-Bridge is not installed, or no fix knows the installed release.
        ValueError: There is no fix of such an id.
        RuntimeError: It is patched with other fixes.
    """
    global _applied
    status = status_of(_chosen(only, skip))
    if _applied is not None:
        if _applied.status != status:
            raise RuntimeError(f"patched already, with {', '.join(applied()) or 'nothing'}; revert() first")
        return _applied.status
    if not status.applied:
        return status
    undo = ExitStack()
    try:
        for fix in status.applied:
            for module, install in fix.modules.items():
                undo.callback(after_import(module, functools.partial(_install, install, undo)))
        for module, install_hooks in INSTALLERS.items():  # last: bridges that a fix adds have the hooks too
            install = functools.partial(install_hooks, fixes=status.applied)
            undo.callback(after_import(module, functools.partial(_install, install, undo)))
    except BaseException:
        undo.close()
        raise
    _applied = _Applied(status, undo)
    return status


def status_of(fixes: Iterable[Fix] | None = None) -> Status:
    """Tell what the installed release has to do with fixes, without patching anything.

    Args:
        fixes: None takes all.

    Raises:
        UnsupportedRelease: Megatron-Bridge is not installed, or no fix knows the installed release.
    """
    chosen = FIXES if fixes is None else tuple(fixes)
    release = installed_release()
    if release is None:
        raise UnsupportedRelease("megatron-bridge is not installed")
    needs = {fix: fix.need(release) for fix in chosen}
    if chosen and all(need is Need.NOT_AVAILABLE for need in needs.values()):
        known = "; ".join(f"{fix.id} is made for {', '.join(fix.releases)}" for fix in chosen)
        raise UnsupportedRelease(f"megatron-bridge {release} is not a known release: {known}")
    return Status(release, needs)


def _chosen(only: Collection[str] | None, skip: Collection[str]) -> tuple[Fix, ...]:
    ids = [fix.id for fix in FIXES]
    if unknown := [name for name in (*(only or ()), *skip) if name not in ids]:
        raise ValueError(f"no fix {', '.join(unknown)}; there are {', '.join(ids)}")
    return tuple(fix for fix in FIXES if (only is None or fix.id in only) and fix.id not in skip)


def _install(install: Install, undo: ExitStack, module: ModuleType) -> None:
    undo.callback(install(module))


def revert() -> None:
    """Put Megatron-Bridge back as it was before ``apply``; nothing happens if it is not patched."""
    global _applied
    if _applied is not None:
        _applied.undo.close()
        _applied = None


@contextmanager
def patched(*, only: Collection[str] | None = None, skip: Collection[str] = ()) -> Iterator[Status]:
    """Patch Megatron-Bridge inside a ``with`` block; afterwards it is as it was before, patched or not.

    Args:
        only: As for ``apply``.
        skip: As for ``apply``.

    Yields:
        What ``apply`` returned.

    Raises:
        UnsupportedRelease, ValueError, RuntimeError: As ``apply``.
    """
    before = _applied is not None
    status = apply(only=only, skip=skip)
    try:
        yield status
    finally:
        if before:
            apply(only=only, skip=skip)
        else:
            revert()


def applied() -> tuple[str, ...]:
    """Return the ids of the fixes that are on."""
    return () if _applied is None else tuple(fix.id for fix in _applied.status.applied)
