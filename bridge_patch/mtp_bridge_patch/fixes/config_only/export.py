"""Fix ``config-only-export``: an export without the checkpoint at hand keeps the checkpoint's layouts.

``AutoBridge.from_hf_config`` gives a bridge a config alone, and a config does not tell how experts are
stored. 0.4.x crashes then; 0.5.x exports MTP experts per expert, 0.6.x the decoder's as well, whatever they
were. Here the layouts come from, in this order, ``export_layout``, what was recorded when the weights were
loaded (kept on the model's config, and stored with a Megatron checkpoint), or the published Qwen3.5 releases,
with a warning.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType, SimpleNamespace
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.fixes.config_only.record import ExportRecord
from mtp_bridge_patch.fixes.config_only.save import save
from mtp_bridge_patch.fixes.config_only.store import install_restore, install_resume, install_store
from mtp_bridge_patch.releases import is_installed_before
from mtp_bridge_patch.upstream.conversion import Conversion
from mtp_bridge_patch.upstream.hooks import Export, Load
from mtp_checkpoint.layouts.expert_layout import TABLES, ExpertLayout
from mtp_checkpoint.layouts.keys import HEAD, Block

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


def _record(load: Load) -> None:
    ExportRecord.of(load.conversion).put_on(_model_configs(load.models))


def _model_configs(models: list[Any]) -> Iterator[Any]:
    for chunk in models:
        yield chunk.config
        if (language_model := getattr(chunk, "language_model", None)) is not None:
            yield language_model.config


def _choose_layouts(conversion: Conversion) -> None:
    """Give a conversion without a checkpoint its layouts."""
    if conversion.layouts is not None:
        return
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


def _any_key(conversion: Conversion, pretrained: Any) -> Any:
    """Return what 0.4.x can look every key up in, to warn of none, where there is no checkpoint."""
    is_needed = conversion.source is None and is_installed_before("0.5.0")
    return _with_any_key(pretrained) if is_needed else pretrained


def _without_tied(name: str, tensor: Any, export: Export) -> Iterator[tuple[str, Any]]:
    """Leave the output layer out where it is the embedding, as checkpoints do."""
    conversion = export.conversion
    tied = getattr(conversion.pretrained, "tie_word_embeddings", False)
    if conversion.source is not None or not tied or name != HEAD:
        yield name, tensor


def _with_any_key(config: Any) -> Any:
    class AnyKey:
        def __contains__(self, _key: object) -> bool:
            return True

    return SimpleNamespace(config=config, state=SimpleNamespace(source=SimpleNamespace(get_all_keys=AnyKey)))


FIX = Fix(
    id="config-only-export",
    failure="An export without the checkpoint crashes, or changes the layout of the experts.",
    fixed_since=None,
    begin=_choose_layouts,
    before_load=_record,
    pretrained=_any_key,
    export=_without_tied,
    save=save,
    modules=MappingProxyType(
        {
            "megatron.bridge.training.checkpointing": install_resume,
            "megatron.bridge.training.config": install_store,
            "megatron.bridge.training.model_load_save": install_restore,
        }
    ),
)
