"""What a bridge converts at the moment: the checkpoint, the model, and how experts are stored.

Megatron-Bridge makes a bridge for every load and every export, and hands checkpoint and model to its methods,
but not to ``mapping_registry``, which has to know them. A conversion is begun where they are handed over, and
kept on the bridge.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mtp_bridge_patch.upstream.bridges import model_bridge
from mtp_checkpoint.files.checkpoint import CheckpointHeaders, read_checkpoint
from mtp_checkpoint.files.headers import TensorHeader
from mtp_checkpoint.inspection.inspection import inspect
from mtp_checkpoint.inspection.report import LayoutReport
from mtp_checkpoint.layouts.expert_keys import ExpertKeys
from mtp_checkpoint.layouts.expert_layout import ExpertLayout
from mtp_checkpoint.layouts.keys import Block

_ATTRIBUTE = "_mtp_bridge_patch_conversion"

Layouts = Mapping[Block, ExpertLayout]
"""Layout of the decoder's and of the MTP layers' routed experts; one without any is left out."""


@dataclass(eq=False)
class Conversion:
    """One load or export.

    Attributes:
        pretrained: What upstream calls `hf_pretrained`: a checkpoint, or a config alone.
        model_config: The Megatron model's config (its provider); None before there is a model.
        layouts: Of the checkpoint's routed experts; None for a config alone, until they are chosen.
        float32: Names of tensors that are exported in F32 without a checkpoint at hand.
    """

    pretrained: Any
    model_config: Any
    layouts: Layouts | None = None
    float32: frozenset[str] = frozenset()

    @cached_property
    def source(self) -> Any:
        """Upstream's state source, which reads the checkpoint; None for a config alone."""
        source = getattr(getattr(self.pretrained, "state", None), "source", None)
        return source if callable(getattr(source, "get_all_keys", None)) else None

    @cached_property
    def headers(self) -> CheckpointHeaders | None:
        """All that the checkpoint's files say of its tensors, read once; None where no file is at hand.

        Raises:
            CheckpointError: The folder or file cannot be read as a checkpoint.
        """
        path = getattr(self.source, "path", None)
        return None if path is None or not Path(path).exists() else read_checkpoint(Path(path))

    @property
    def stored(self) -> Mapping[str, TensorHeader]:
        """Shape and dtype of every tensor of the checkpoint; empty where no file is at hand.

        Raises:
            CheckpointError: As `headers`.
        """
        return {} if self.headers is None else self.headers.tensors

    @cached_property
    def report(self) -> LayoutReport:
        """What keys, shapes and config say of the routed experts, and where they contradict each other.

        Raises:
            CheckpointError: As `headers`.
        """
        config = getattr(self.pretrained, "config", None)
        return inspect(self.source if self.headers is None else self.headers, config=config)

    def is_of(self, pretrained: Any, model_config: Any) -> bool:
        """Tell whether the conversion is of this checkpoint and model."""
        return model_config is self.model_config and pretrained is self.pretrained


def begin(bridge: Any, pretrained: Any, megatron_model: Any) -> Conversion:
    """Begin a load or an export, and keep it on the bridge.

    Args:
        bridge: The bridge.
        pretrained: Upstream's `hf_pretrained`.
        megatron_model: The model, or the list of its chunks.
    """
    conversion = Conversion(pretrained, _model_config(megatron_model))
    if conversion.source is not None:
        conversion.layouts = _layouts(conversion.source.get_all_keys())
    resume(bridge, conversion)
    return conversion


def resume(bridge: Any, conversion: Conversion) -> None:
    """Make a conversion the one that a bridge is in."""
    setattr(bridge, _ATTRIBUTE, conversion)


def current(bridge: Any) -> Conversion | None:
    """Return the conversion that a bridge is in; None if it has met no checkpoint."""
    return getattr(bridge, _ATTRIBUTE, None)


def begun(bridge: Any, pretrained: Any, megatron_model: Any) -> Conversion:
    """Return the conversion that a bridge is in, a new one unless it is of the same checkpoint and model."""
    known = current(bridge)
    if known is not None and known.is_of(pretrained, _model_config(megatron_model)):
        return known
    return begin(bridge, pretrained, megatron_model)


def chunks(megatron_model: Any) -> list[Any]:
    """Return a model's chunks without their wrappers."""
    models = megatron_model if isinstance(megatron_model, list) else [megatron_model]
    return list(model_bridge().unwrap_model(models))


def _model_config(megatron_model: Any) -> Any:
    models = chunks(megatron_model)
    return models[0].config if models else None


def _layouts(keys: Iterable[str]) -> Layouts:
    found: dict[Block, ExpertLayout] = {}
    for layer, experts in ExpertKeys.of(keys).layers.items():
        found.setdefault(layer.block, experts.layout)
    return found
