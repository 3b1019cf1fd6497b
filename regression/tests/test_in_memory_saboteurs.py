"""The oracle judges every row of the in-memory bridge's table; mistakes of other kinds are in `mutants`."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from mtp_fixtures import Geometry
from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.comparison.tensors import RawTensor, read_folder
from mtp_regression.comparison.verdicts import Verdict
from mtp_regression.in_memory.bridge import InMemoryBridge
from mtp_regression.in_memory.conversions import Array, Conversion, Cut
from mtp_regression.in_memory.table import TABLE, Section
from mtp_regression.oracle.check import check
from mtp_regression.oracle.parameters import native_parameters
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.threads import ThreadRank

Q36, DENSE, NEXT = "qwen3.6-35b-a3b", "qwen3.6-27b", "qwen3-next-80b-a3b"


def _upside_down(row: Conversion) -> Conversion:
    def order(sizes: Geometry, *tensors: Array) -> Array:
        return row.order(sizes, *tensors)[::-1]

    one_row = row.name.endswith("gate_weight")
    return replace(row, offset=1) if one_row else replace(row, order=order)


def _cut_otherwise(row: Conversion) -> Conversion:
    one_row = row.name.endswith("gate_weight")
    cut = Cut.ROW_PARALLEL if one_row else Cut.COLUMN_PARALLEL
    return replace(row, cut=cut if row.cut is Cut.WHOLE else Cut.WHOLE)


MODELS = {Section.FUSED_LINEAR: NEXT, Section.MIXTURE: Q36, Section.EXPERT: Q36}


@pytest.mark.parametrize("mistake", [_upside_down, _cut_otherwise])
@pytest.mark.parametrize(
    ("section", "number"),
    [
        pytest.param(section, number, id=f"{section}-{row.name}")
        for section, rows in TABLE.items()
        for number, row in enumerate(rows)
    ],
)
def test_the_oracle_judges_every_row(
    section: Section,
    number: int,
    mistake: Callable[[Conversion], Conversion],
    make_checkpoint: MakeCheckpoint,
) -> None:
    """A bridge that has one row alone: right, all its parameters are; with a mistake, none."""
    folder = make_checkpoint(MODELS.get(section, DENSE))
    row, parallel = TABLE[section][number], Parallel(tp=2, etp=2)
    wrong = []
    for conversion in (row, mistake(row)):
        bridge = InMemoryBridge()
        bridge.table = {**dict.fromkeys(Section, ()), section: (conversion,)}
        bridge.world = ThreadRank(1, 2, None)  # type: ignore[arg-type]  # meets nobody in a load
        bridge.build(folder, parallel)
        bridge.load(folder)
        config = json.loads((folder / "config.json").read_text())
        expected = native_parameters(read_folder(folder), config, parallel, bridge.coordinates())
        held = ((name, RawTensor.from_array(array)) for name, array in bridge.parameters())
        findings = [found for found in check(expected, held) if found.verdict is not Verdict.MISSING]
        wrong.append((len(findings), len(bridge.model)))
    (of_right, right), (of_wrong, every) = wrong
    assert (of_right, of_wrong) == (0, every)
    assert right == every > 0
