"""The bridges of the Qwen3.5 family in Megatron-Bridge, and how their methods are replaced and put back."""

import functools
import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from types import ModuleType
from typing import Any

VISION_LANGUAGE_MODULE = "megatron.bridge.models.qwen_vl.qwen35_vl_bridge"
TEXT_MODULE = "megatron.bridge.models.qwen.qwen35_bridge"
MODULES = (VISION_LANGUAGE_MODULE, TEXT_MODULE)
"""Modules of the family's bridges; 0.4.x has the first alone."""

MODEL_BRIDGE_MODULE = "megatron.bridge.models.conversion.model_bridge"

_BRIDGE = re.compile(r"Qwen35\w*Bridge")

Method = Callable[..., Any]


def bridges(module: ModuleType) -> Iterator[Any]:
    """Yield the bridge classes that a module defines; those that it imports are another's."""
    for name, member in list(vars(module).items()):
        if isinstance(member, type) and _BRIDGE.fullmatch(name) and member.__module__ == module.__name__:
            yield member


def wrap(module: ModuleType, wrappers: Mapping[str, Callable[[Method], Method]]) -> Callable[[], None]:
    """Wrap methods of every bridge that a module defines, signatures kept.

    Args:
        module: An imported module of bridges.
        wrappers: What makes the new method out of the one that is there, by name. A method that a release
            does not have is left out.

    Returns:
        What puts the classes back as they were.
    """
    undo = ExitStack()
    for bridge_class in bridges(module):
        for name, wrapper in wrappers.items():
            if (method := getattr(bridge_class, name, None)) is not None:
                undo.callback(replace(bridge_class, name, functools.wraps(method)(wrapper(method))))
    return undo.close


def replace(owner: Any, name: str, value: object) -> Callable[[], None]:
    """Set an attribute of a class or module, and return what puts it back, inherited ones included."""
    own = vars(owner)
    if name in own:
        before = own[name]

        def restore() -> None:
            setattr(owner, name, before)
    else:

        def restore() -> None:
            delattr(owner, name)

    setattr(owner, name, value)
    return restore


def keys_of(mapping: Any) -> list[str]:
    """Return the checkpoint's keys, or patterns of keys, that one of upstream's mappings names."""
    return [mapping.hf_param] if isinstance(mapping.hf_param, str) else list(mapping.hf_param.values())


def model_bridge() -> Any:
    """Return upstream's module of what all bridges have in common."""
    return importlib.import_module(MODEL_BRIDGE_MODULE)


def param_mapping() -> Any:
    """Return upstream's module of mapping classes."""
    return importlib.import_module("megatron.bridge.models.conversion.param_mapping")
