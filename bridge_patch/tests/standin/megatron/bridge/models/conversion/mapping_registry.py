"""Stands in for ``megatron.bridge.models.conversion.mapping_registry``."""

import os
import re
from typing import Any

from megatron.bridge.models.conversion.param_mapping import AutoMapping


class MegatronMappingRegistry:
    """Holds mappings in order, and derives some from others."""

    def __init__(self, *mappings: Any) -> None:
        self.mappings = list(mappings)
        if os.environ.get("ENABLE_BRIDGE_QUANT_MAPPING") == "1":
            self.mappings += [
                AutoMapping(m.megatron_param.replace(".weight", ".weight_quantizer._amax"), m.hf_param)
                for m in mappings
                if m.megatron_param.endswith(".weight") and isinstance(m.hf_param, str)
                if not m.is_grouped_export
            ]

    def megatron_to_hf_lookup(self, megatron_param_name: str) -> Any:
        """Return the first mapping that fits, its wildcards resolved; None if there is none."""
        for mapping in self.mappings:
            pattern = re.escape(mapping.megatron_param).replace(r"\*", r"(\d+)")
            if match := re.fullmatch(pattern, megatron_param_name):
                return mapping.resolve(match.groups()) if match.groups() else mapping
        return None

    def __iter__(self) -> Any:
        return iter(self.mappings)
