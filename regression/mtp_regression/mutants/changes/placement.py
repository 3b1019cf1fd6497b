"""Mistaken ideas of which rank has what: import and export err alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mtp_regression.in_memory.model import Home, Parameter
from mtp_regression.in_memory.placement import Placement
from mtp_regression.ranks.parallel import Coordinates


class ExpertsInTurn(Placement):
    """Gives rank r the experts r, r + EP, r + 2 * EP ... in place of neighbours."""

    def names(self, parameter: Parameter, rank: Coordinates) -> Iterator[str]:
        """Number the experts anew."""
        if parameter.expert is not None:
            local, owner = divmod(parameter.expert, self.parallel.ep)
            parameter = replace(parameter, expert=owner * self._experts_a_rank + local)
        return super().names(parameter, rank)


class ExpertsFromTheLastRank(Placement):
    """Gives the first experts to the last rank."""

    def names(self, parameter: Parameter, rank: Coordinates) -> Iterator[str]:
        """Take another rank's."""
        return super().names(parameter, replace(rank, ep=self.parallel.ep - 1 - rank.ep))


class FinalNormLast(Placement):
    """Puts the final norm into the last stage, whether it has decoder layers or not."""

    def stages(self, parameter: Parameter) -> set[int]:
        """Take the last."""
        last = self.parallel.pp * self.parallel.vpp - 1
        return {last} if parameter.home is Home.FINAL_NORM else super().stages(parameter)


class MtpWithoutEmbedding(Placement):
    """Puts the embedding into the first stage alone."""

    def stages(self, parameter: Parameter) -> set[int]:
        """Take the first."""
        return {0} if parameter.home is Home.EMBEDDING else super().stages(parameter)


class VirtualStagesInBlocks(Placement):
    """Gives a rank virtual stages that follow each other, in place of every PP-th."""

    def names(self, parameter: Parameter, rank: Coordinates) -> Iterator[str]:
        """Find the rank of each stage anew."""
        for pp in range(self.parallel.pp):
            for name in super().names(parameter, replace(rank, pp=pp)):
                chunk, _, own = name.partition("/")
                owner, anew = divmod(int(chunk) * self.parallel.pp + pp, self.parallel.vpp)
                if owner == rank.pp:
                    yield f"{anew}/{own}"


class LaterRanksShardsFirst(Placement):
    """Gives the first tensor-parallel rank the last shard."""

    def shard(self, parameter: Parameter, rank: Coordinates) -> int:
        """Count from the end."""
        return self.shards(parameter) - 1 - super().shard(parameter, rank)
