"""Which part of a model one rank has: layers of its pipeline stage, experts, and shards of weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from mtp_checkpoint.layouts.attention import LINEAR_ATTENTION
from mtp_checkpoint.layouts.keys import MTP_PREFIX, Place
from mtp_fixtures.model.geometry import TextGeometry
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
        without_mtp: Whether `mtp_num_layers` is None, whatever the checkpoint has.
    """

    text: TextGeometry
    parallel: Parallel
    rank: Coordinates
    without_mtp: bool = False

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
        return self._prefix_of(0)

    @property
    def last(self) -> str | None:
        """Name prefix, "{chunk}/", of the model chunk that ends the pipeline; None on an earlier stage."""
        return self._prefix_of(len(self._layer_counts) - 1)

    @property
    def mtp(self) -> str | None:
        """Name prefix of the model chunk that has the MTP layers; None if it is not on the rank."""
        has_mtp = self.text.mtp_num_hidden_layers > 0
        return self._prefix_of(self.parallel.mtp_stage) if has_mtp else None

    @property
    def final_norm(self) -> str | None:
        """Name prefix of the model chunk that has the decoder's final norm; None if it is not on the rank.

        It is in the stage of the last decoder layer in every model whose number of MTP layers is given, 0
        too, and else in the last stage (`megatron.core.transformer.transformer_block.TransformerBlock.
        has_final_layernorm_in_this_stage`).
        """
        if self.without_mtp:
            return self.last
        counts = self._layer_counts
        return self._prefix_of(max(stage for stage, count in enumerate(counts) if count))

    def decoder_layers(self, prefix: str) -> Iterator[Layer]:
        """Yield the rank's decoder layers, each with attention of its own kind.

        Stage v * PP + p of the pipeline is chunk v of rank p, which numbers its layers from 0
        (`megatron.core.transformer.transformer_layer.get_transformer_layer_offset`).

        Args:
            prefix: What the language model's keys in the checkpoint begin with, "model.language_model." or
                "model.".

        Raises:
            ValueError: The layers cannot be cut as the parallel layout says.
        """
        layer = 0
        for stage, count in enumerate(self._layer_counts):
            target = self._prefix_of(stage)
            for local in range(count if target else 0):
                linear = self.text.layer_types[layer + local] == LINEAR_ATTENTION
                yield Layer(f"{target}decoder.layers.{local}.", Place(prefix, layer + local), linear)
            layer += count

    def mtp_layers(self) -> Iterator[Layer]:
        """Yield the MTP layers, all with full attention, if they are on the rank."""
        if self.mtp is None:
            return
        for layer in range(self.text.mtp_num_hidden_layers):
            yield Layer(f"{self.mtp}mtp.layers.{layer}.", Place(MTP_PREFIX, layer), linear=False)

    def _prefix_of(self, stage: int) -> str | None:
        """Return the name prefix of the model chunk that is a stage of the pipeline, if it is on the rank."""
        chunk, rank = divmod(stage, self.parallel.pp)
        return f"{chunk}/" if rank == self.rank.pp else None

    @cached_property
    def _layer_counts(self) -> list[int]:
        """Numbers of decoder layers in each stage, in the pipeline's order.

        A layout gives them. Else the first and the last rank have the numbers that are given, and the others
        equal ones of what is left; embedding and loss take the place of a layer if they count as one. A
        rank's layers are shared equally between its chunks
        (`megatron.core.transformer.transformer_block.get_num_layers_to_build`).

        Raises:
            ValueError: The layers cannot be cut like that.
        """
        cut, layers = self.parallel, self.text.num_hidden_layers
        if cut.layout:
            counts = [stage.count("t") for stage in cut.layout_stages]
        else:
            ranks = [cut.first or None, *[None] * (cut.pp - 2), cut.last or None][: cut.pp]
            left = layers - cut.first - cut.last + cut.embedding + cut.loss
            share = left // max(ranks.count(None), 1)
            counts = [(share if given is None else given) // cut.vpp for given in ranks] * cut.vpp
            counts[0] -= cut.embedding
            counts[-1] -= cut.loss
        if sum(counts) != layers or min(counts) < 0:
            raise ValueError(f"{layers} decoder layers cannot be cut as {cut} says")
        return counts
