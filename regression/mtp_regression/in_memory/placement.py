"""Which parameters a rank of a parallel layout has, which shards, and how shards make a whole again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mtp_checkpoint.layouts.expert_layout import Shape
from mtp_fixtures.model.geometry import Geometry
from mtp_fixtures.model.mlp import Moe
from mtp_regression.in_memory.conversions import Array, Conversion, Cut
from mtp_regression.in_memory.model import Home, Model, Parameter
from mtp_regression.ranks.parallel import Coordinates, Parallel


def coordinates(parallel: Parallel, rank: int, ranks: int) -> Coordinates:
    """Find a rank's place in the groups, which Megatron-Core makes in the order tp-cp-ep-dp-pp.

    There are two grids: experts are shared by etp and ep, everything else by tp and cp; replicas take what is
    left (`megatron.core.parallel_state.RankGenerator`).

    Args:
        parallel: The parallel layout.
        rank: Number of the rank.
        ranks: How many there are.
    """
    a_stage = ranks // parallel.pp
    return Coordinates(
        tp=rank % parallel.tp,
        etp=rank % parallel.etp,
        ep=rank // parallel.etp % parallel.ep,
        pp=rank // a_stage,
    )


@dataclass(frozen=True)
class Placement:
    """Where the parameters of a model are in a parallel layout.

    Attributes:
        model: The model.
        parallel: The parallel layout.
    """

    model: Model
    parallel: Parallel

    def names(self, parameter: Parameter, rank: Coordinates) -> Iterator[str]:
        """Yield a parameter's name in every model chunk of a rank that has it: "{chunk}/{name}".

        Layers and experts are numbered from 0 in each chunk.
        """
        first_expert = rank.ep * self._experts_a_rank
        expert = None if parameter.expert is None else parameter.expert - first_expert
        if expert is not None and not 0 <= expert < self._experts_a_rank:
            return
        for stage in sorted(self.stages(parameter)):
            chunk, pp = divmod(stage, self.parallel.pp)
            if pp == rank.pp:
                layer = parameter.layer
                if parameter.home is Home.DECODER:
                    layer -= sum(self._layers[:stage])
                yield f"{chunk}/{parameter.template.format(layer=layer, expert=expert)}"

    def shards(self, parameter: Parameter) -> int:
        """Return in how many shards a parameter is: as many as ranks share it."""
        if parameter.conversion.cut is Cut.WHOLE:
            return 1
        return self.parallel.tp if parameter.expert is None else self.parallel.etp

    def shard(self, parameter: Parameter, rank: Coordinates) -> int:
        """Return the number of the shard that a rank has."""
        return (rank.tp if parameter.expert is None else rank.etp) % self.shards(parameter)

    def shape(self, parameter: Parameter) -> Shape:
        """Return the shape of a parameter's shards.

        Raises:
            ValueError: The ranks do not divide it.
        """
        shape, count = list(self.model.whole_shape(parameter)), self.shards(parameter)
        axis = 1 if parameter.conversion.cut is Cut.ROW_PARALLEL else 0
        shape[axis], rest = divmod(shape[axis], count)
        if rest:
            raise ValueError(f"{count} ranks do not divide {parameter.name}")
        return tuple(shape)

    def stages(self, parameter: Parameter) -> set[int]:
        """Return the virtual stages of the pipeline, numbered in its order, that have a parameter.

        MTP layers take the embedding themselves, so it is with them too. A tied output layer is a parameter
        of its own where it is not on the embedding's stage.
        """
        last = self.parallel.pp * self.parallel.vpp - 1
        mtp = {self.parallel.mtp_stage} if self.model.sizes.text.mtp_num_hidden_layers else set()
        match parameter.home:
            case Home.DECODER:
                ends = np.cumsum(self._layers)
                return {int(np.searchsorted(ends, parameter.layer, side="right"))}
            case Home.FINAL_NORM:
                return {max(stage for stage, layers in enumerate(self._layers) if layers)}
            case Home.OUTPUT:
                return {last} - ({0} if self.model.tied else set())
            case Home.EMBEDDING:
                return {0} | mtp
            case Home.MTP:
                return mtp
            case Home.VISION:
                return {0}

    @cached_property
    def _layers(self) -> list[int]:
        """Numbers of decoder layers of all virtual stages.

        Raises:
            ValueError: The layers cannot be cut as the parallel layout says.
        """
        cut, layers = self.parallel, self.model.sizes.text.num_hidden_layers
        stages = cut.pp * cut.vpp
        if cut.layout:
            counts = [stage.count("t") for stage in cut.layout_stages]
        elif cut.first or cut.last:
            between = cut.pp - bool(cut.first) - bool(cut.last)
            left = layers - cut.first - cut.last
            by_rank = [left // between if between else 0] * cut.pp
            by_rank[0] = cut.first or by_rank[0]
            by_rank[-1] = cut.last or by_rank[-1]
            counts = [count // cut.vpp for count in by_rank] * cut.vpp
        else:
            counts = [(layers + cut.embedding + cut.loss) // stages] * stages
            counts[0] -= cut.embedding
            counts[-1] -= cut.loss
        if sum(counts) != layers or min(counts) < 0:
            raise ValueError(f"{layers} decoder layers cannot be cut as {cut} says")
        return counts

    @property
    def _experts_a_rank(self) -> int:
        mlp = self.model.sizes.text.mlp
        return mlp.num_experts // self.parallel.ep if isinstance(mlp, Moe) else 0


def cut(conversion: Conversion, sizes: Geometry, whole: Array, shards: int) -> list[Array]:
    """Cut a whole parameter into equal shards.

    Raises:
        ValueError: A part does not have a multiple of so many rows, or the weight of so many columns.
    """
    match conversion.cut:
        case Cut.WHOLE:
            return [whole]
        case Cut.ROW_PARALLEL:
            return np.split(whole, shards, axis=1)
        case Cut.COLUMN_PARALLEL:
            parts = np.split(whole, _starts(conversion, sizes, len(whole)))
            blocks = [np.split(part, shards) for part in parts]
            return [np.concatenate(of_rank) for of_rank in zip(*blocks, strict=True)]


def join(conversion: Conversion, sizes: Geometry, shards: Sequence[Array]) -> Array:
    """Put a parameter together again: undo `cut`."""
    match conversion.cut:
        case Cut.WHOLE:
            return shards[0]
        case Cut.ROW_PARALLEL:
            return np.concatenate(shards, axis=1)
        case Cut.COLUMN_PARALLEL:
            blocks = [np.split(shard, _starts(conversion, sizes, len(shard))) for shard in shards]
            return np.concatenate([block for part in zip(*blocks, strict=True) for block in part])


def _starts(conversion: Conversion, sizes: Geometry, rows: int) -> list[int]:
    """Return the rows at which parts begin, but the first, of a parameter or of a shard of it."""
    parts = conversion.parts(sizes)
    return [sum(parts[:number]) * rows // sum(parts) for number in range(1, len(parts))]
