"""In-memory bridges that have a mistaken idea of one conversion: a row of the table, or where things are.

Import and export make the mistake alike, so that the round trip is exact.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from mtp_fixtures import Geometry
from mtp_regression.in_memory.bridge import InMemoryBridge
from mtp_regression.in_memory.checkpoint import Checkpoint, Span
from mtp_regression.in_memory.conversions import Array, Cut, in_turn, one_part
from mtp_regression.in_memory.model import Home, Parameter
from mtp_regression.in_memory.placement import Placement
from mtp_regression.in_memory.table import TABLE, Section, Table
from mtp_regression.ranks.parallel import Coordinates


def another(section: Section, name: str, **changes: Any) -> Table:
    """The table with another row: the one whose name ends so."""
    rows = TABLE[section]
    assert sum(row.name.endswith(name) for row in rows) == 1
    return {**TABLE, section: tuple(replace(r, **changes) if r.name.endswith(name) else r for r in rows)}


def exchanged(section: Section, one: str, other: str) -> Table:
    """The table with two rows' keys exchanged."""
    keys = {row.name: row.keys for row in TABLE[section]}
    keys[one], keys[other] = keys[other], keys[one]
    return {**TABLE, section: tuple(replace(row, keys=keys[row.name]) for row in TABLE[section])}


def _up_above_gate(_sizes: Geometry, gate: Array, up: Array) -> Array:
    return np.concatenate((up, gate))


def _heads_in_turn(_sizes: Geometry, query: Array, key: Array, value: Array) -> Array:
    return np.concatenate((query, key, value))


def _reversed_rows(_sizes: Geometry, rows: Array) -> Array:
    return rows[::-1]


class HeadsInTurn(InMemoryBridge):
    table = another(Section.FULL, "linear_qkv.weight", order=_heads_in_turn)


class GatedNormAsItIs(InMemoryBridge):
    table = another(Section.LINEAR, "out_norm.weight", offset=0)


class ProjectionsCutTogether(InMemoryBridge):
    table = another(Section.LINEAR, "in_proj.weight", parts=one_part)


class ConvolutionCutTogether(InMemoryBridge):
    table = another(Section.LINEAR, "conv1d.weight", parts=one_part)


class DecaysReversed(InMemoryBridge):
    table = another(Section.LINEAR, "A_log", order=_reversed_rows)


class FusedInTurn(InMemoryBridge):
    table = another(Section.FUSED_LINEAR, "in_proj.weight", order=in_turn)


class UpAboveGate(InMemoryBridge):
    table = another(Section.DENSE, "linear_fc1.weight", order=_up_above_gate)


class GateAndUpCutTogether(InMemoryBridge):
    table = another(Section.DENSE, "linear_fc1.weight", parts=one_part)


class UpAboveGateOfExperts(InMemoryBridge):
    table = another(Section.EXPERT, "linear_fc1.weight{expert}", order=_up_above_gate)


class SharedExpertCutTogether(InMemoryBridge):
    table = another(Section.MIXTURE, "linear_fc1.weight", parts=one_part)


class RouterReversed(InMemoryBridge):
    table = another(Section.MIXTURE, "router.weight", order=_reversed_rows)


class VisionHeadsInTurn(InMemoryBridge):
    table = another(Section.VISION_LAYER, "linear_qkv.weight", order=in_turn)


class VisionBiasWhole(InMemoryBridge):
    table = another(Section.VISION_LAYER, "linear_fc1.bias", cut=Cut.WHOLE)


class VocabularyReversed(InMemoryBridge):
    table = another(Section.EMBEDDING, "word_embeddings.weight", order=_reversed_rows)


class OutputReversed(InMemoryBridge):
    table = another(Section.OUTPUT, "output_layer.weight", order=_reversed_rows)


class MtpNormsExchanged(InMemoryBridge):
    table = exchanged(Section.MTP, "enorm.weight", "hnorm.weight")


class MtpProjectionCutByColumns(InMemoryBridge):
    table = another(Section.MTP, "eh_proj.weight", cut=Cut.ROW_PARALLEL)


class _InTheOrderOfRanks(Placement):
    def names(self, parameter: Parameter, rank: Coordinates) -> Iterator[str]:
        """Give rank r the experts r, r + EP, r + 2 * EP ... in place of neighbours."""
        if parameter.expert is not None:
            each = self._experts_a_rank
            local, owner = divmod(parameter.expert, self.parallel.ep)
            parameter = replace(parameter, expert=owner * each + local)
        return super().names(parameter, rank)


class StridedExperts(InMemoryBridge):
    placement = _InTheOrderOfRanks


class _FinalNormLast(Placement):
    def stages(self, parameter: Parameter) -> set[int]:
        """Put the final norm into the last stage, whether it has decoder layers or not."""
        last = self.parallel.pp * self.parallel.vpp - 1
        return {last} if parameter.home is Home.FINAL_NORM else super().stages(parameter)


class FinalNormLast(InMemoryBridge):
    placement = _FinalNormLast


class _UpFirst(Checkpoint):
    def _split(self, key: str) -> Iterator[tuple[str, Span]]:
        """Take the upper half of a packed gate_up_proj for up."""
        for part, rows in super()._split(key):
            names = {"gate": "up", "up": "gate"}
            _, _, projection = part.removesuffix("_proj.weight").rpartition(".")
            other = names.get(projection, projection) if key.endswith("gate_up_proj") else projection
            yield part.replace(f".{projection}_proj.", f".{other}_proj."), rows


class PackedUpFirst(InMemoryBridge):
    checkpoint = _UpFirst
