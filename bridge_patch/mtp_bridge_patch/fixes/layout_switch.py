"""Fix ``mtp-layout-switch``: packed MTP experts are mapped as packed.

Megatron-Bridge 0.4.0 to 0.4.2 have a single bridge of this family with routed experts,
``Qwen35VLMoEBridge``; its file is the same, byte for byte, in the three releases. It maps MTP experts one by
one, whatever the checkpoint holds. This fix looks at the checkpoint's keys where the mappings are asked for,
and where they are packed puts two mappings of packed experts in place of the two of single experts.
"""

import functools
from collections.abc import Callable
from contextlib import ExitStack
from types import MappingProxyType, ModuleType
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.bridges import replace
from mtp_bridge_patch.upstream.conversion import current
from mtp_checkpoint.inspection.inspection import mtp_expert_layout
from mtp_checkpoint.layouts.expert_layout import ExpertLayout
from mtp_checkpoint.layouts.keys import EXPERTS, MTP_PREFIX, Block, expert_name

_KEYS = f"{MTP_PREFIX}layers.*.{EXPERTS}"
_EXPERTS = "language_model.mtp.layers.*.mtp_model_layer.mlp.experts."
_LINEAR_FC1 = _EXPERTS + "linear_fc1.weight*"
_LINEAR_FC2 = _EXPERTS + "linear_fc2.weight*"


def install(module: ModuleType) -> Callable[[], None]:
    """Change ``Qwen35VLMoEBridge``, signatures kept.

    Args:
        module: The imported ``megatron.bridge.models.qwen_vl.qwen35_vl_bridge``.

    Returns:
        What puts the class back as it was.
    """
    bridge_class: Any = module.Qwen35VLMoEBridge
    upstream_registry = bridge_class.mapping_registry
    upstream_tasks = bridge_class.build_conversion_tasks

    @functools.wraps(upstream_registry)
    def mapping_registry(self: Any) -> Any:
        registry = upstream_registry(self)
        return _packed(registry, module) if _layout(self) is ExpertLayout.PACKED else registry

    @functools.wraps(upstream_tasks)
    def build_conversion_tasks(self: Any, hf_pretrained: Any, megatron_model: Any) -> Any:
        # Load and export both pass here, each with a bridge made for the occasion (AutoBridge._model_bridge
        # makes one at every access), so this is where a bridge meets its checkpoint. 0.4.2 keeps it under
        # this name by itself, 0.4.0 and 0.4.1 do not.
        self.hf_pretrained = hf_pretrained
        return upstream_tasks(self, hf_pretrained, megatron_model)

    undo = ExitStack()
    undo.callback(replace(bridge_class, "mapping_registry", mapping_registry))
    undo.callback(replace(bridge_class, "build_conversion_tasks", build_conversion_tasks))
    return undo.close


def _layout(bridge: Any) -> ExpertLayout:
    """Tell the layout of the bridge's checkpoint; absent for a bridge with a config and no checkpoint."""
    conversion = current(bridge)
    if conversion is not None and conversion.source is None and conversion.layouts is not None:
        return conversion.layouts.get(Block.MTP, ExpertLayout.ABSENT)  # chosen by config-only-export
    hf_pretrained = getattr(bridge, "hf_pretrained", None)
    source = getattr(getattr(hf_pretrained, "state", None), "source", None)
    if source is None:
        return ExpertLayout.ABSENT
    path = getattr(hf_pretrained, "model_name_or_path", None)
    name = "the checkpoint" if path is None else f"checkpoint {path}"
    return mtp_expert_layout(source.get_all_keys(), checkpoint=name)


def _packed(registry: Any, module: ModuleType) -> Any:
    """Return the registry with mappings of packed MTP experts.

    They are those that the same release has for the decoder, but for ``transpose_on_export=True`` of the
    decoder's down projection. With it the export transposes the stacked experts if their shape is not that of
    the checkpoint's tensor, which costs a read of that whole tensor, or if the checkpoint has no such tensor.
    Neither can be right here: packed was told from this very key, and the import gives slice e, [H, I], of
    ``down_proj`` [E, H, I] to ``linear_fc2.weight{e}`` [H, I] as it is, so that stacking the experts makes
    the checkpoint's shape and bytes again, also where H = I.
    """
    mappings = {
        _LINEAR_FC1: module.FusedGatedExpertMapping(
            megatron_param=_LINEAR_FC1, hf_param=_KEYS + expert_name("gate_up", None)
        ),
        _LINEAR_FC2: module.FusedExpertMapping(
            megatron_param=_LINEAR_FC2, hf_param=_KEYS + expert_name("down", None)
        ),
    }
    upstream = list(registry)
    if missing := mappings.keys() - {mapping.megatron_param for mapping in upstream}:
        raise RuntimeError(
            f"mtp-layout-switch: {module.__name__} has no mapping of {', '.join(sorted(missing))}. "
            f"It is not the file of megatron-bridge {', '.join(FIX.releases)}: install one of them anew."
        )
    # A registry derives mappings of quantizer ranges from its others (if ENABLE_BRIDGE_QUANT_MAPPING is set);
    # the new one derives them again.
    return type(registry)(
        *(
            mappings.get(mapping.megatron_param, mapping)
            for mapping in upstream
            if not mapping.megatron_param.endswith("_quantizer._amax")
        )
    )


FIX = Fix(
    id="mtp-layout-switch",
    failure="Packed MTP experts are looked for one by one, not found and not loaded; the export crashes.",
    fixed_since="0.5.0",
    modules=MappingProxyType({"megatron.bridge.models.qwen_vl.qwen35_vl_bridge": install}),
)
