"""What a bridge converts at the moment: the checkpoint, the model, and how experts are stored.

Megatron-Bridge makes a bridge for every load and every export, and hands checkpoint and model to its methods,
but not to ``mapping_registry``, which has to know them. A conversion is begun where they are handed over, and
kept on the bridge.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from mtp_bridge_patch.upstream.bridges import Method, model_bridge, wrap
from mtp_checkpoint.files.headers import TensorHeader
from mtp_checkpoint.files.index import read_checkpoint
from mtp_checkpoint.layouts.expert_keys import ExpertKeys
from mtp_checkpoint.layouts.expert_layout import ExpertLayout
from mtp_checkpoint.layouts.keys import Block

_ATTRIBUTE = "_mtp_bridge_patch_conversion"

Layouts = Mapping[Block, ExpertLayout]
"""Layout of the decoder's and of the MTP layers' routed experts; one without any is left out."""

Rewrite = Callable[[list[Any], "Conversion"], Iterable[Any]]
"""Makes a bridge's new mappings out of those it has."""


@dataclass(eq=False)
class Conversion:
    """One load or export.

    Attributes:
        pretrained: What upstream calls `hf_pretrained`: a checkpoint, or a config alone.
        model_config: The Megatron model's config (its provider); None before there is a model.
        layouts: Of the checkpoint's routed experts; None for a config alone, until they are chosen.
        float32: Names of tensors that are exported in F32 without a checkpoint at hand.
        stand_in: What upstream was given instead of `pretrained`, if anything.
    """

    pretrained: Any
    model_config: Any
    layouts: Layouts | None = None
    float32: frozenset[str] = frozenset()
    stand_in: Any = None

    @cached_property
    def source(self) -> Any:
        """Upstream's state source, which reads the checkpoint; None for a config alone."""
        source = getattr(getattr(self.pretrained, "state", None), "source", None)
        return source if callable(getattr(source, "get_all_keys", None)) else None

    @cached_property
    def stored(self) -> Mapping[str, TensorHeader]:
        """Shape and dtype of every tensor of the checkpoint; empty where it is not a folder at hand.

        Raises:
            CheckpointError: The folder cannot be read as a checkpoint.
        """
        path = getattr(self.source, "path", None)
        return read_checkpoint(Path(path)).tensors if path is not None and Path(path).is_dir() else {}

    def is_of(self, pretrained: Any, model_config: Any) -> bool:
        """Whether the conversion is of this checkpoint and model."""
        return model_config is self.model_config and (
            pretrained is self.pretrained or (self.stand_in is not None and pretrained is self.stand_in)
        )


def begin(bridge: Any, pretrained: Any, megatron_model: Any) -> Conversion:
    """Return a bridge's conversion, a new one unless it is of the same checkpoint and model.

    Args:
        bridge: The bridge.
        pretrained: Upstream's `hf_pretrained`.
        megatron_model: The model, or the list of its chunks.
    """
    model_config = _model_config(megatron_model)
    known = current(bridge)
    if known is not None and known.is_of(pretrained, model_config):
        return known
    conversion = Conversion(pretrained, model_config)
    if conversion.source is not None:
        conversion.layouts = _layouts(conversion.source.get_all_keys())
    setattr(bridge, _ATTRIBUTE, conversion)
    return conversion


def current(bridge: Any) -> Conversion | None:
    """Return the conversion that a bridge is in; None if it has met no checkpoint."""
    return getattr(bridge, _ATTRIBUTE, None)


def chunks(megatron_model: Any) -> list[Any]:
    """Return a model's chunks without their wrappers."""
    models = megatron_model if isinstance(megatron_model, list) else [megatron_model]
    return list(model_bridge().unwrap_model(models))


def rewrite_mappings(module: ModuleType, rewrite: Rewrite) -> Callable[[], None]:
    """Let every bridge of a module have other mappings, while it is in a conversion.

    Args:
        module: An imported module of bridges.
        rewrite: What makes the mappings.

    Returns:
        What puts the classes back as they were.
    """

    def registry(upstream: Method) -> Method:
        def mapping_registry(self: Any) -> Any:
            made = upstream(self)
            if (conversion := current(self)) is None:
                return made
            # A registry derives the mappings of quantizer ranges from its others (if
            # ENABLE_BRIDGE_QUANT_MAPPING is set); the new one derives them again.
            given = [mapping for mapping in made if not mapping.megatron_param.endswith("_quantizer._amax")]
            return type(made)(*rewrite(given, conversion))

        return mapping_registry

    def tasks(upstream: Method) -> Method:
        def build_conversion_tasks(
            self: Any, hf_pretrained: Any, megatron_model: Any, *args: Any, **kwargs: Any
        ) -> Any:
            begin(self, hf_pretrained, megatron_model)
            return upstream(self, hf_pretrained, megatron_model, *args, **kwargs)

        return build_conversion_tasks

    return wrap(module, {"mapping_registry": registry, "build_conversion_tasks": tasks})


def _model_config(megatron_model: Any) -> Any:
    models = chunks(megatron_model)
    return models[0].config if models else None


def _layouts(keys: Iterable[str]) -> Layouts:
    found: dict[Block, ExpertLayout] = {}
    for layer, experts in ExpertKeys.of(keys).layers.items():
        found.setdefault(layer.block, experts.layout)
    return found
