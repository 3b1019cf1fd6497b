"""Bridges whose import and export make the same mistake, so that the round trip is exact: the oracle's task.

Each has a mistaken idea of one mapping's format, which is its own inverse: the checkpoint's side is changed
before import and after export. Each is an adapter in processes of its own: nothing is put back.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch

from mtp_regression.adapters.megatron_bridge import MegatronBridge

Weights = dict[str, torch.Tensor]


def exchange_halves(tensor: torch.Tensor, dim: int) -> torch.Tensor:
    """Exchange the first half of an axis with the second."""
    return torch.cat(tensor.chunk(2, dim)[::-1], dim)


class MappingSaboteur(MegatronBridge):
    """Changes what one class of Megatron-Bridge's mappings takes in, and what it gives, alike.

    Attributes:
        mapping: Name of the class.
        source: What the mapping's keys in the checkpoint must contain.
    """

    mapping: ClassVar[str]
    source: ClassVar[str] = ""

    def load(self, checkpoint: Path) -> None:
        from megatron.bridge.models.conversion import param_mapping

        mapping_class = getattr(param_mapping, self.mapping)
        to_megatron, to_hf = mapping_class.hf_to_megatron, mapping_class.megatron_to_hf

        def concerned(mapping: Any) -> bool:
            return type(mapping) is mapping_class and self.source in str(mapping.hf_param)

        def mistaken_import(mapping: Any, weights: Any, module: Any) -> Any:
            if concerned(mapping) and weights is not None:
                single = isinstance(weights, torch.Tensor)
                weights = self.change({"": weights} if single else dict(weights))
                weights = weights[""] if single else weights
            return to_megatron(mapping, weights, module)

        def mistaken_export(mapping: Any, *args: Any) -> Weights:
            exported = to_hf(mapping, *args)
            if not concerned(mapping) or not exported:
                return exported
            if isinstance(mapping.hf_param, str):
                return {name: self.change({"": tensor})[""] for name, tensor in exported.items()}
            keys = mapping.hf_param
            changed = self.change({role: exported[key] for role, key in keys.items()})
            return {key: changed[role] for role, key in keys.items()}

        mapping_class.hf_to_megatron = mistaken_import
        mapping_class.megatron_to_hf = mistaken_export
        super().load(checkpoint)

    def change(self, weights: Weights) -> Weights:
        """Return other weights, from which the same change gives the first ones back."""
        return {role: self.change_one(weight) for role, weight in weights.items()}

    def change_one(self, weight: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class KeysAsValues(MappingSaboteur):
    mapping = "QKVMapping"

    def change(self, weights: Weights) -> Weights:
        return weights | {"k": weights["v"], "v": weights["k"]}


class OtherKeyHead(KeysAsValues):
    """Of two key heads, each query group gets the other's."""

    def change(self, weights: Weights) -> Weights:
        return weights | {"k": exchange_halves(weights["k"], 0)}


class GateBeforeQuery(MappingSaboteur):
    """Takes each head's output gate for its query."""

    mapping = "QKVMapping"
    head_dim = 32

    def change(self, weights: Weights) -> Weights:
        heads = weights["q"].unflatten(0, (-1, 2, self.head_dim))
        return weights | {"q": heads.flip(1).flatten(0, 2)}


class AlphaBeforeBeta(MappingSaboteur):
    mapping = "GDNLinearMappingSeparate"

    def change(self, weights: Weights) -> Weights:
        return weights | {"a": weights["b"], "b": weights["a"]}


class QueriesAsKeysOfGdn(MappingSaboteur):
    mapping = "GDNLinearMappingSeparate"
    key_size = 36

    def change(self, weights: Weights) -> Weights:
        query, key, value = weights["qkv"].tensor_split((self.key_size, 2 * self.key_size))
        return weights | {"qkv": torch.cat((key, query, value))}


class ReversedConvolution(MappingSaboteur):
    mapping = "GDNConv1dMapping"

    def change_one(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.flip(-1)


class GateAsUp(MappingSaboteur):
    mapping = "GatedMLPMapping"

    def change(self, weights: Weights) -> Weights:
        return {"gate": weights["up"], "up": weights["gate"]}


class PackedGateAsUp(MappingSaboteur):
    mapping = "FusedGatedExpertMapping"

    def change_one(self, weight: torch.Tensor) -> torch.Tensor:
        return exchange_halves(weight, -2)


class ReversedPackedDown(MappingSaboteur):
    mapping = "FusedExpertMapping"

    def change_one(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.flip(-1)


class ReversedPlain(MappingSaboteur):
    """All that is whole on every rank: norms, router, gate of the shared expert, patches and positions."""

    mapping = "ReplicatedMapping"

    def change_one(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.flip(-1)


class NormNotCentred(MappingSaboteur):
    """Takes GDN's output norm for one that scales by 1 + w already."""

    mapping = "RMSNorm2ZeroCenteredRMSNormMapping"

    def load(self, checkpoint: Path) -> None:
        from megatron.bridge.models.conversion import param_mapping

        mapping_class = param_mapping.RMSNorm2ZeroCenteredRMSNormMapping
        mapping_class.hf_to_megatron = param_mapping.AutoMapping.hf_to_megatron
        mapping_class.megatron_to_hf = param_mapping.AutoMapping.megatron_to_hf
        MegatronBridge.load(self, checkpoint)


class OtherRanksRows(MappingSaboteur):
    """Of two ranks, each gets the other's rows; but for GDN's convolution, which is exported otherwise."""

    mapping = "ColumnParallelMapping"

    def change_one(self, weight: torch.Tensor) -> torch.Tensor:
        return exchange_halves(weight, 0) if weight.ndim < 3 else weight


class OtherRanksColumns(MappingSaboteur):
    """Of two ranks, each gets the other's columns; biases are whole."""

    mapping = "RowParallelMapping"

    def change_one(self, weight: torch.Tensor) -> torch.Tensor:
        return exchange_halves(weight, 1) if weight.ndim > 1 else weight


class HiddenBeforeEmbedding(OtherRanksColumns):
    """Takes the halves of `mtp.fc`'s input in the other order."""

    mapping = "ColumnParallelMapping"
    source = "mtp.fc.weight"


class ReversedEmbedding(MappingSaboteur):
    mapping = "ColumnParallelMapping"
    source = "embed_tokens.weight"

    def change_one(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.flip(0)


class KeysAsValuesOfVision(MappingSaboteur):
    mapping = "ConcatenatedQKVMapping"

    def change_one(self, weight: torch.Tensor) -> torch.Tensor:
        query, key, value = weight.chunk(3)
        return torch.cat((query, value, key))


class ParameterSaboteur(MegatronBridge):
    """Exchanges two parameters after the import, and back for each export."""

    names: ClassVar[tuple[str, str]]

    def load(self, checkpoint: Path) -> None:
        super().load(checkpoint)
        self.exchange()

    def stream(self) -> Iterator[tuple[str, Any]]:
        with self.exchanged():  # the bridge yields views of parameters
            yield from ((name, tensor.clone()) for name, tensor in super().stream())

    def save(self, folder: Path, **options: Any) -> None:
        with self.exchanged():
            super().save(folder, **options)

    @contextmanager
    def exchanged(self) -> Iterator[None]:
        """Exchange them back, until an export has ended or is left."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    def exchange(self) -> None:
        held = dict(self.parameters())
        one, other = (held[name].data for name in self.names)
        kept = one.clone()
        one.copy_(other)
        other.copy_(kept)


class SwapsTwoExpertsTwice(ParameterSaboteur):
    names = (
        "0/mtp.layers.0.mlp.experts.linear_fc1.weight1",
        "0/mtp.layers.0.mlp.experts.linear_fc1.weight2",
    )


class SwapsMtpNormsTwice(ParameterSaboteur):
    names = ("0/mtp.layers.0.enorm.weight", "0/mtp.layers.0.hnorm.weight")
