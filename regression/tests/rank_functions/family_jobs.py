"""Functions that run on a rank, with a real release: what the patch replaces, and whose functions run."""

import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import mtp_bridge_patch
from mtp_bridge_patch.upstream import bridges, methods
from mtp_regression.adapters.using import Used
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.world import World

PATCH = str(Path(mtp_bridge_patch.__file__).parent) + os.sep
HOOK = "import_hook.py"  # is asked for every module that is imported
STEPS = ("load", "export", "save")


def patch_functions(_world: World, checkpoint: str, folder: str) -> dict[str, list[str]]:
    """Take a checkpoint through the patched bridge and back.

    Args:
        _world: A world of one rank.
        checkpoint: Folder of the checkpoint.
        folder: Where to save it.

    Returns:
        Of each step, the functions of the patch that ran.
    """
    from mtp_regression.adapters.megatron_bridge import MegatronBridge  # imports Megatron

    mtp_bridge_patch.apply()
    bridge = Used(MegatronBridge())
    with _recorded() as load:
        bridge.begin(Path(checkpoint), Parallel())
    with _recorded() as export:
        assert list(bridge.stream())
    with _recorded() as save:
        bridge.save(Path(folder))
    bridge.close()
    return {name: sorted(ran) for name, ran in zip(STEPS, (load, export, save), strict=True)}


@contextmanager
def _recorded() -> Iterator[set[str]]:
    ran: set[str] = set()

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(PATCH) and not file.endswith(HOOK):
            ran.add(frame.f_code.co_qualname.partition(".<locals>")[0])

    sys.setprofile(profile)
    try:
        yield ran
    finally:
        sys.setprofile(None)


def replaced(_world: World) -> dict[str, list[str]]:
    """Patch the release, and revert it.

    Returns:
        "wrapped": methods of bridges that were other ones meanwhile, as `Class.method`; "wrong": those whose
        wrapper has another signature or more than one layer, or that were not given back.
    """
    modules = [import_module(name) for name in bridges.MODULES if _exists(name)]
    before = _methods(modules)
    mtp_bridge_patch.apply(skip=["text-only"])
    during = _methods(modules)
    mtp_bridge_patch.revert()
    wrapped = [name for name in before if during[name] is not before[name]]
    after = _methods(modules)
    wrong = [
        name
        for name in wrapped
        if during[name].__wrapped__ is not before[name]
        or inspect.signature(during[name]) != inspect.signature(before[name])
        or not _takes_all(during[name], before[name])
    ]
    wrong += [name for name in before if after[name] is not before[name]]
    return {"wrapped": sorted(wrapped), "wrong": sorted(wrong)}


def _exists(module: str) -> bool:
    try:
        import_module(module)
    except ModuleNotFoundError:
        return False
    return True


def _methods(modules: list[Any]) -> dict[str, Any]:
    return {
        f"{bridge.__name__}.{name}": getattr(bridge, name)
        for module in modules
        for bridge in bridges.bridges(module)
        for name in methods.METHODS
    }


def _takes_all(wrapper: Any, upstream: Any) -> bool:
    """Tell whether the parameters that a wrapper names are the first ones of upstream's, in their order."""
    kinds = inspect.Parameter
    own = inspect.signature(wrapper, follow_wrapped=False).parameters.values()
    named = [parameter.name for parameter in own if parameter.kind is kinds.POSITIONAL_OR_KEYWORD]
    rest = {parameter.kind for parameter in own} - {kinds.POSITIONAL_OR_KEYWORD}
    names = list(inspect.signature(upstream).parameters)
    complete = len(named) == len(names) or rest == {kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD}
    return complete and named == names[: len(named)]
