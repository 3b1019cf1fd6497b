"""Fix ``config-only-export``: an export without the checkpoint at hand keeps the checkpoint's layouts.

``AutoBridge.from_hf_config`` gives a bridge a config alone, and a config does not tell how experts are
stored. 0.4.x crashes then; 0.5.x exports MTP experts per expert, 0.6.x the decoder's as well, whatever they
were. Here the layouts come from, in this order, ``export_layout``, what was recorded when the weights were
loaded (kept on the model's config, and stored with a Megatron checkpoint), or the published Qwen3.5 releases,
with a warning.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.fixes.config_only.record import ExportRecord
from mtp_bridge_patch.fixes.config_only.save import install_save
from mtp_bridge_patch.fixes.config_only.store import install_restore, install_resume, install_store
from mtp_bridge_patch.releases import is_installed_before
from mtp_bridge_patch.upstream.bridges import MODULES, Method, wrap
from mtp_bridge_patch.upstream.conversion import Conversion, begin, chunks
from mtp_checkpoint.layouts.expert_layout import TABLES, ExpertLayout
from mtp_checkpoint.layouts.keys import Block

DEFAULT = ExportRecord(ExpertLayout.PACKED, ExpertLayout.PER_EXPERT)
"""Layouts of the published BF16 releases of Qwen3.5; Qwen3.6 has packed MTP experts."""
_WRITABLE = (ExpertLayout.PACKED, ExpertLayout.PER_EXPERT)
_logger = logging.getLogger(__name__)
_explicit: ContextVar[ExportRecord | None] = ContextVar("export_layout", default=None)


@contextmanager
def export_layout(
    *, decoder: ExpertLayout | str = DEFAULT.decoder, mtp: ExpertLayout | str = DEFAULT.mtp
) -> Iterator[None]:
    """Choose, inside a ``with`` block, the layouts that exports without a checkpoint at hand have.

    Args:
        decoder: Of the decoder's routed experts, "packed" or "per-expert".
        mtp: Of the MTP layers' routed experts.

    Raises:
        ValueError: It is another layout, or none.
    """
    record = ExportRecord(ExpertLayout(decoder), ExpertLayout(mtp))
    if other := {record.decoder, record.mtp}.difference(_WRITABLE):
        raise ValueError(f"cannot export {', '.join(sorted(other))}: choose {' or '.join(_WRITABLE)}")
    token = _explicit.set(record)
    try:
        yield
    finally:
        _explicit.reset(token)


def install(module: ModuleType) -> Callable[[], None]:
    """Change the bridges of a module.

    Args:
        module: One of the imported modules of Qwen3.5 bridges.

    Returns:
        What puts the classes back as they were.
    """
    wrappers = {
        "load_weights_hf_to_megatron": _recorded,
        "build_conversion_tasks": _tasks,
        "stream_weights_megatron_to_hf": _export,
    }
    return wrap(module, wrappers)


def _recorded(upstream: Method) -> Method:
    def load_weights_hf_to_megatron(
        self: Any, hf_pretrained: Any, megatron_model: Any, *args: Any, **kwargs: Any
    ) -> Any:
        conversion = begin(self, hf_pretrained, megatron_model)
        if conversion.source is not None:
            ExportRecord.of(conversion).put_on(_model_configs(megatron_model))
        return upstream(self, hf_pretrained, megatron_model, *args, **kwargs)

    return load_weights_hf_to_megatron


def _model_configs(megatron_model: Any) -> Iterator[Any]:
    for chunk in chunks(megatron_model):
        yield chunk.config
        if (language_model := getattr(chunk, "language_model", None)) is not None:
            yield language_model.config


def _tasks(upstream: Method) -> Method:
    def build_conversion_tasks(
        self: Any, hf_pretrained: Any, megatron_model: Any, *args: Any, **kwargs: Any
    ) -> Any:
        conversion = _begin(self, hf_pretrained, megatron_model)
        if conversion.source is None and is_installed_before("0.5.0"):
            # 0.4.x looks every key up in the checkpoint, to warn of those that are missing.
            conversion.stand_in = hf_pretrained = _with_any_key(hf_pretrained)
        return upstream(self, hf_pretrained, megatron_model, *args, **kwargs)

    return build_conversion_tasks


def _export(upstream: Method) -> Method:
    def stream_weights_megatron_to_hf(
        self: Any, megatron_model: Any, hf_pretrained: Any, *args: Any, **kwargs: Any
    ) -> Iterator[Any]:
        conversion = _begin(self, hf_pretrained, megatron_model)
        tied = getattr(hf_pretrained, "tie_word_embeddings", False)
        for pair in upstream(self, megatron_model, hf_pretrained, *args, **kwargs):
            # Checkpoints leave the output layer out where it is the embedding.
            if conversion.source is not None or not tied or pair[0] != "lm_head.weight":
                yield pair

    return stream_weights_megatron_to_hf


def _begin(bridge: Any, hf_pretrained: Any, megatron_model: Any) -> Conversion:
    """Begin a conversion; one without a checkpoint is given its layouts."""
    conversion = begin(bridge, hf_pretrained, megatron_model)
    if conversion.layouts is not None:
        return conversion
    recorded = ExportRecord.on(conversion.model_config)
    record = _explicit.get() or recorded
    if record is None:
        record = DEFAULT
        _logger.warning(
            "Exporting without the checkpoint, and none was recorded: routed experts will be %s in the "
            "decoder and %s in MTP layers, as in Qwen3.5. Qwen3.6 has packed MTP experts; choose with "
            "mtp_bridge_patch.export_layout(decoder=..., mtp=...).",
            record.decoder,
            record.mtp,
        )
    if any(TABLES[layout].scaled for layout in (record.decoder, record.mtp)):
        _logger.warning(
            "Exporting without the FP8 checkpoint that was loaded, and so without its scales: weights will "
            "be in the model's dtype, experts per expert."
        )
    conversion.layouts = {Block.DECODER: record.decoder, Block.MTP: record.mtp}
    conversion.float32 = recorded.float32 if recorded else frozenset()
    return conversion


def _with_any_key(config: Any) -> Any:
    class AnyKey:
        def __contains__(self, _key: object) -> bool:
            return True

    return SimpleNamespace(config=config, state=SimpleNamespace(source=SimpleNamespace(get_all_keys=AnyKey)))


FIX = Fix(
    id="config-only-export",
    failure="An export without the checkpoint crashes, or changes the layout of the experts.",
    fixed_since=None,
    modules=MappingProxyType(
        {
            **dict.fromkeys(MODULES, install),
            "megatron.bridge.models.conversion.auto_bridge": install_save,
            "megatron.bridge.training.checkpointing": install_resume,
            "megatron.bridge.training.config": install_store,
            "megatron.bridge.training.model_load_save": install_restore,
        }
    ),
)
