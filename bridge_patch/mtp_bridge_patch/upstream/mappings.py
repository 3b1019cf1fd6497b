"""What fixes do with upstream's mappings, each of which ties Megatron parameters to a checkpoint's keys."""

import copy
import importlib
from collections.abc import Callable
from typing import Any

_DERIVED = "_quantizer._amax"


def keys_of(mapping: Any) -> list[str]:
    """Return the checkpoint's keys, or patterns of keys, that a mapping names."""
    return [mapping.hf_param] if isinstance(mapping.hf_param, str) else list(mapping.hf_param.values())


def changed_keys(mapping: Any, change: Callable[[str], str]) -> str | dict[str, str]:
    """Return what a mapping calls `hf_param`, a key or one for each part, with every key changed."""
    if isinstance(mapping.hf_param, str):
        return change(mapping.hf_param)
    return {part: change(key) for part, key in mapping.hf_param.items()}


def is_derived(mapping: Any) -> bool:
    """Tell whether a registry made a mapping from another, of a quantizer's range.

    It does with `ENABLE_BRIDGE_QUANT_MAPPING`, and does so anew when it is made from other mappings.
    """
    return bool(mapping.megatron_param.endswith(_DERIVED))


def specialized(mapping: Any, make_class: Callable[[type], type]) -> Any:
    """Return a copy of a mapping whose class is derived from that of the mapping.

    Args:
        mapping: One of upstream's.
        make_class: Derives a class that needs no attribute of its own.
    """
    copied = copy.copy(mapping)
    copied.__class__ = make_class(type(mapping))
    return copied


def param_mapping() -> Any:
    """Return upstream's module of mapping classes."""
    return importlib.import_module("megatron.bridge.models.conversion.param_mapping")
