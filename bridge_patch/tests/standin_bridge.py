"""Stands in for ``megatron.bridge.models.qwen_vl.qwen35_vl_bridge``: its names, and no computation.

Tests copy this file into a package tree of that name. Mappings record what they are given; a registry and a
bridge do what the patch relies on.
"""

import os
from importlib.metadata import version
from typing import Any


class AutoMapping:
    """One Megatron parameter from one tensor."""

    def __init__(
        self, megatron_param: str, hf_param: Any, permute_dims: tuple[int, ...] | None = None
    ) -> None:
        self.megatron_param = megatron_param
        self.hf_param = hf_param
        self.permute_dims = permute_dims


class GatedMLPMapping(AutoMapping):
    """One Megatron parameter from a gate and an up projection."""

    def __init__(self, megatron_param: str, gate: str, up: str) -> None:
        super().__init__(megatron_param, {"gate": gate, "up": up})


class FusedExpertMapping(AutoMapping):
    """Many Megatron parameters from one tensor of all experts."""

    def __init__(
        self,
        megatron_param: str,
        hf_param: str,
        permute_dims: tuple[int, ...] | None = None,
        transpose_on_export: bool = False,
    ) -> None:
        super().__init__(megatron_param, hf_param, permute_dims)
        self.transpose_on_export = transpose_on_export


class FusedGatedExpertMapping(FusedExpertMapping):
    """The same for gate and up projections."""


class MegatronMappingRegistry:
    """Holds mappings in order, and derives some from others."""

    def __init__(self, *mappings: AutoMapping) -> None:
        self.mappings = list(mappings)
        if os.environ.get("ENABLE_BRIDGE_QUANT_MAPPING") == "1":
            self.mappings += [
                AutoMapping(m.megatron_param.replace(".weight", ".weight_quantizer._amax"), m.hf_param)
                for m in mappings
                if m.megatron_param.endswith(".weight")
            ]

    def __iter__(self) -> Any:
        return iter(self.mappings)


class MegatronModelBridge:
    """Base of all bridges."""

    def mapping_registry(self) -> MegatronMappingRegistry:
        """Return the mappings."""
        raise NotImplementedError

    def load_weights_hf_to_megatron(
        self, hf_pretrained: Any, megatron_model: list[Any], allowed_mismatched_params: Any = None
    ) -> list[Any]:
        """Return the tasks that a load would do."""
        del allowed_mismatched_params
        return self.build_conversion_tasks(hf_pretrained, megatron_model)

    def stream_weights_hf_to_megatron(self, hf_pretrained: Any, megatron_model: list[Any]) -> Any:
        """Yield them."""
        yield from self.build_conversion_tasks(hf_pretrained, megatron_model)

    def build_conversion_tasks(self, hf_pretrained: Any, megatron_model: list[Any]) -> list[Any]:
        """Return the mappings in use, as tasks; like upstream, only 0.4.2 keeps the checkpoint."""
        del megatron_model
        if version("megatron-bridge") == "0.4.2":
            self.hf_pretrained = hf_pretrained
        return list(self.mapping_registry())


_DECODER = "language_model.decoder.layers.*.mlp.experts."
_MTP = "language_model.mtp.layers.*.mtp_model_layer.mlp."


class Qwen35VLMoEBridge(MegatronModelBridge):
    """The mixture-of-experts bridge."""

    def mapping_registry(self) -> MegatronMappingRegistry:
        """Return the mappings: decoder experts packed, MTP experts one by one."""
        return MegatronMappingRegistry(
            AutoMapping("language_model.output_layer.weight", "lm_head.weight"),
            FusedGatedExpertMapping(
                _DECODER + "linear_fc1.weight*", "model.language_model.layers.*.mlp.experts.gate_up_proj"
            ),
            FusedExpertMapping(
                _DECODER + "linear_fc2.weight*",
                "model.language_model.layers.*.mlp.experts.down_proj",
                transpose_on_export=True,
            ),
            GatedMLPMapping(
                _MTP + "experts.linear_fc1.weight*",
                gate="mtp.layers.*.mlp.experts.*.gate_proj.weight",
                up="mtp.layers.*.mlp.experts.*.up_proj.weight",
            ),
            AutoMapping(_MTP + "experts.linear_fc2.weight*", "mtp.layers.*.mlp.experts.*.down_proj.weight"),
            AutoMapping(
                _MTP + "shared_experts.linear_fc2.weight", "mtp.layers.*.mlp.shared_expert.down_proj.weight"
            ),
        )


class Qwen35VLBridge(MegatronModelBridge):
    """The dense bridge."""

    def mapping_registry(self) -> MegatronMappingRegistry:
        """Return the mappings."""
        return MegatronMappingRegistry(AutoMapping("language_model.output_layer.weight", "lm_head.weight"))
