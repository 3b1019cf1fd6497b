"""Stands in for ``megatron.bridge.models.conversion.param_mapping``: names, and no tensor parallelism."""

from typing import Any


def _filled(pattern: str, numbers: tuple[str, ...]) -> str:
    for number in numbers:
        pattern = pattern.replace("*", number, 1)
    return pattern


class MegatronParamMapping:
    """One Megatron parameter, and the keys that it is made of."""

    is_grouped_export = False

    def __init__(self, megatron_param: str, hf_param: Any) -> None:
        self.megatron_param = megatron_param
        self.hf_param = hf_param
        self._validate_patterns()

    def _validate_patterns(self) -> None:
        """Refuse names whose wildcards are not as many."""
        keys = [self.hf_param] if isinstance(self.hf_param, str) else self.hf_param.values()
        if not self.is_grouped_export and any(
            key.count("*") != self.megatron_param.count("*") for key in keys
        ):
            raise ValueError(f"Wildcard count mismatch: {self.megatron_param}, {self.hf_param}")

    def broadcast_from_pp_rank(self, tensor: Any, cache_key: str | None = None) -> Any:
        """Return what a stage has; there is one."""
        del cache_key
        return tensor

    def broadcast_obj_from_pp_rank(self, obj: Any, cache_key: str | None = None) -> Any:
        """Return what a stage has; there is one."""
        del cache_key
        return obj

    def gather_from_tp_ranks(self, tensor: Any) -> list[Any]:
        """Return what the ranks have; there is one."""
        return [tensor]

    def gather_from_ep_ranks(
        self, megatron_weights: Any, megatron_module: Any, hf_param_name: str | None
    ) -> dict[str, Any]:
        """Return the experts of all ranks; there is one."""
        del megatron_module
        return {str(hf_param_name): megatron_weights}

    def resolve(self, captures: tuple[str, ...]) -> Any:
        """Return a mapping with numbers for wildcards."""
        name = _filled(self.megatron_param, captures)
        if isinstance(self.hf_param, str):
            return type(self)(name, _filled(self.hf_param, captures))
        return type(self)(name, **{part: _filled(key, captures) for part, key in self.hf_param.items()})

    def megatron_to_hf(self, megatron_weights: Any, megatron_module: Any) -> dict[str, Any]:
        """Return what is exported, as it is."""
        del megatron_module
        return {self.hf_param: megatron_weights}

    def broadcast_tensor_to_tp_ranks(self, tensor: Any, src_rank: int = 0) -> Any:
        """Return what one rank has; there is one."""
        del src_rank
        return tensor

    def scatter_to_tp_ranks(
        self, splits: Any, output_shape: Any, dtype: Any, device: Any, src_rank: int = 0
    ) -> Any:
        """Return the rank's part; there is one rank."""
        del output_shape, dtype, device
        return splits[src_rank]


class AutoMapping(MegatronParamMapping):
    """One Megatron parameter from one tensor."""

    def __init__(
        self, megatron_param: str, hf_param: str, permute_dims: tuple[int, ...] | None = None
    ) -> None:
        super().__init__(megatron_param, hf_param)
        self.permute_dims = permute_dims


class RMSNorm2ZeroCenteredRMSNormMapping(AutoMapping):
    """A norm of which Megatron-Core holds w - 1."""

    def megatron_to_hf(self, megatron_weights: Any, megatron_module: Any) -> dict[str, Any]:
        """Add the 1."""
        weights = super().megatron_to_hf(megatron_weights, megatron_module)
        return {key: weight + 1 for key, weight in weights.items()}


class GatedMLPMapping(MegatronParamMapping):
    """One Megatron parameter from a gate and an up projection."""

    def __init__(self, megatron_param: str, gate: str, up: str) -> None:
        super().__init__(megatron_param, {"gate": gate, "up": up})


class _FusedMapping(AutoMapping):
    """Many Megatron parameters from one tensor of all experts."""

    is_grouped_export = True

    def __init__(
        self,
        megatron_param: str,
        hf_param: str,
        permute_dims: tuple[int, ...] | None = None,
        transpose_on_export: bool = False,
    ) -> None:
        super().__init__(megatron_param, hf_param, permute_dims)
        self.transpose_on_export = transpose_on_export


class FusedExpertMapping(_FusedMapping):
    """Of down projections."""


class FusedGatedExpertMapping(_FusedMapping):
    """Of gate and up projections."""
