"""Fix ``pinned-revision``: weights are those of the revision that was asked for, as config and tokenizer are.

``from_hf_pretrained("org/name", revision=...)`` hands the revision to transformers, for config, tokenizer and
processor. ``SafeTensorsStateSource`` gets the name alone, and so finds what ``main`` points at: weights of
another commit, and the keys by which bridge and patch tell how experts are stored. Where a cache has no
``main``, as after a download of one commit, it finds nothing. So it is with ``cache_dir``. 0.4.0 looks for
the architecture in the config of ``main``, too.
"""

import functools
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.releases import is_installed_before
from mtp_bridge_patch.upstream.bridges import is_of_family
from mtp_bridge_patch.upstream.hub import hub_options, snapshot
from mtp_bridge_patch.upstream.replacing import installed

_FILES = ("*.safetensors", "model.safetensors.index.json")


def install(module: ModuleType) -> Callable[[], None]:
    """Let the reader of weights look for the revision.

    Args:
        module: The imported ``megatron.bridge.models.hf_pretrained.base``.

    Returns:
        What puts the class back as it was.
    """
    upstream = module.PreTrainedBase.state

    @functools.wraps(upstream.fget)
    def state(self: Any) -> Any:
        accessor = upstream.fget(self)
        source: Any = getattr(accessor, "source", None)
        options = hub_options(self.init_kwargs)
        # Not one that has found its files, nor one that has no files: weights of a model in memory.
        if options and getattr(source, "_resolved_path_cache", source) is None and is_of_family(self.config):
            source._resolve_path = functools.partial(_resolve, options=options)
        return accessor

    return installed(module.PreTrainedBase, state=upstream.getter(state))


def install_check(module: ModuleType) -> Callable[[], None]:
    """Let 0.4.0 look for the architecture in the config that it loads afterwards.

    Args:
        module: The imported ``megatron.bridge.models.conversion.auto_bridge``.

    Returns:
        What puts the module back as it was.
    """
    if not is_installed_before("0.4.1"):
        return lambda: None
    asked: ContextVar[Mapping[str, Any]] = ContextVar("asked", default=MappingProxyType({}))
    load, upstream = module.safe_load_config_with_retry, module.AutoBridge.from_hf_pretrained.__func__

    @functools.wraps(load)
    def safe_load_config_with_retry(path: Any, *args: Any, **kwargs: Any) -> Any:
        if options := asked.get():
            config = load(path, *args, **kwargs, **options)
            if is_of_family(config):
                return config
        return load(path, *args, **kwargs)

    @classmethod  # type: ignore[misc]
    @functools.wraps(upstream)
    def from_hf_pretrained(cls: Any, path: Any, **kwargs: Any) -> Any:
        token = asked.set(hub_options(kwargs))
        try:
            return upstream(cls, path, **kwargs)
        finally:
            asked.reset(token)

    undo = ExitStack()
    undo.callback(installed(module, safe_load_config_with_retry=safe_load_config_with_retry))
    undo.callback(installed(module.AutoBridge, from_hf_pretrained=from_hf_pretrained))
    return undo.close


def _resolve(name: str | Path, *, options: Mapping[str, Any]) -> Path:
    """Return the folder of a checkpoint, as upstream's method does of a name alone."""
    if Path(name).is_dir():
        return Path(name)
    folder = snapshot(str(name), _FILES, **options)
    if not any(folder.glob(_FILES[0])):
        raise FileNotFoundError(f"no weights of {name} are in {folder}; download them as well as its config")
    return folder


FIX = Fix(
    id="pinned-revision",
    failure="With a name of the hub and `revision=`, weights and their layout are those of `main`.",
    fixed_since=None,
    modules=MappingProxyType(
        {
            "megatron.bridge.models.hf_pretrained.base": install,
            "megatron.bridge.models.conversion.auto_bridge": install_check,
        }
    ),
)
