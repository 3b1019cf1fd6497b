"""Which part of a model one rank has: layers of its pipeline stage, experts, and shards of weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mtp_checkpoint.layouts.keys import MTP_PREFIX, Place
from mtp_fixtures.model.geometry import LINEAR_ATTENTION, TextGeometry
from mtp_fixtures.model.mlp import Moe
from mtp_regression.oracle.shards import Share
from mtp_regression.ranks.parallel import Coordinates, Parallel


@dataclass(frozen=True)
class Layer:
    """A transformer layer that is on the rank.

    Attributes:
        target: Prefix of its parameters' names, such as "0/decoder.layers.1.".
        place: Root and number of the layer in the checkpoint.
        linear: Whether its attention is linear (a GDN layer).
    """

    target: str
    place: Place
    linear: bool

    @property
    def source(self) -> str:
        """Prefix of its keys in the checkpoint, such as "model.language_model.layers.3."."""
        return self.place.key


@dataclass(frozen=True)
class Placement:
    """One rank's part of a language model and its MTP layers.

    Attributes:
        text: The language model's dimensions.
        parallel: The parallel layout.
        rank: The rank's place in it.
    """

    text: TextGeometry
    parallel: Parallel
    rank: Coordinates

    @property
    def tensor(self) -> Share:
        """Its shard of every weight but those of routed experts."""
        return Share(self.rank.tp, self.parallel.tp)

    @property
    def expert_tensor(self) -> Share:
        """Its shard of the weights of routed experts."""
        return Share(self.rank.etp, self.parallel.etp)

    @property
    def experts(self) -> range:
        """Numbers of its routed experts in the whole layer; empty for a dense model.

        Expert-parallel rank r has E / EP experts, from number r * E / EP on
        (`megatron.core.transformer.moe.moe_layer.BaseMoELayer`, `local_expert_indices`).
        """
        if not isinstance(self.text.mlp, Moe):
            return range(0)
        count = self.text.mlp.num_experts // self.parallel.ep
        return range(self.rank.ep * count, (self.rank.ep + 1) * count)

    @property
    def first(self) -> str | None:
        """Name prefix, "0/", of the model chunk that begins the pipeline; None on a later stage."""
        return "0/" if self.rank.pp == 0 else None

    @property
    def last(self) -> str | None:
        """Name prefix, "{chunk}/", of the model chunk that ends the pipeline; None on an earlier stage."""
        return f"{self.parallel.vpp - 1}/" if self.rank.pp == self.parallel.pp - 1 else None

    def decoder_layers(self, prefix: str) -> Iterator[Layer]:
        """Yield the rank's decoder layers, each with attention of its own kind.

        Layers are split into PP * VPP equal runs: chunk v of pipeline stage p has run v * PP + p, and numbers
        its layers from 0 (`megatron.core.transformer.transformer_layer.get_transformer_layer_offset`).

        Args:
            prefix: What the language model's keys in the checkpoint begin with, "model.language_model." or
                "model.".
        """
        share = self.text.num_hidden_layers // (self.parallel.pp * self.parallel.vpp)
        for chunk in range(self.parallel.vpp):
            first = (chunk * self.parallel.pp + self.rank.pp) * share
            for local in range(share):
                layer = first + local
                linear = self.text.layer_types[layer] == LINEAR_ATTENTION
                yield Layer(f"{chunk}/decoder.layers.{local}.", Place(prefix, layer), linear)

    def mtp_layers(self) -> Iterator[Layer]:
        """Yield the MTP layers, all with full attention, if they are on the rank.

        They are on the last model chunk of the last pipeline stage
        (`megatron.core.transformer.multi_token_prediction.mtp_on_this_rank`).
        """
        if self.last is None:
            return
        for layer in range(self.text.mtp_num_hidden_layers):
            yield Layer(f"{self.last}mtp.layers.{layer}.", Place(MTP_PREFIX, layer), linear=False)
