"""The bridges of the Qwen3.5 family in Megatron-Bridge: where they are, and what belongs to the family."""

import importlib
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

VISION_LANGUAGE_MODULE = "megatron.bridge.models.qwen_vl.qwen35_vl_bridge"
TEXT_MODULE = "megatron.bridge.models.qwen.qwen35_bridge"
MODULES = (VISION_LANGUAGE_MODULE, TEXT_MODULE)
"""Modules of the family's bridges; 0.4.x has the first alone."""

MODEL_BRIDGE_MODULE = "megatron.bridge.models.conversion.model_bridge"

_BRIDGE = re.compile(r"Qwen35\w*Bridge")
_ARCHITECTURE = "Qwen3_5"


def bridges(module: ModuleType) -> Iterator[Any]:
    """Yield the bridge classes that a module defines; those that it imports are another's."""
    for name, member in list(vars(module).items()):
        if isinstance(member, type) and _BRIDGE.fullmatch(name) and member.__module__ == module.__name__:
            yield member


def is_of_family(config: Any) -> bool:
    """Tell from a Hugging Face config whether its model is one of the family.

    Args:
        config: Any object; one that names no architectures is another family's.
    """
    architectures = getattr(config, "architectures", None)
    if not isinstance(architectures, list | tuple):
        return False
    return any(isinstance(name, str) and name.startswith(_ARCHITECTURE) for name in architectures)


def model_bridge() -> Any:
    """Return upstream's module of what all bridges have in common."""
    return importlib.import_module(MODEL_BRIDGE_MODULE)
