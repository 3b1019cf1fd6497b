"""The table of folders: every kind and fault has a row, what loads is carried, a wrong export shows."""

import json
from pathlib import Path

import pytest

from mtp_fixtures import CheckpointSpec, preset
from mtp_fixtures.faults.table import FOLDERS
from mtp_fixtures.faults.write import write_faulty
from mtp_regression.adapters import MEGATRON_BRIDGE, PATCHED_MEGATRON_BRIDGE
from mtp_regression.maintenance.folders import page, table
from mtp_regression.maintenance.folders.measure import RIGHT, WRONG, measure
from mtp_regression.maintenance.known import PATCHED, RELEASES, UPSTREAM, differences
from mtp_regression.plugin import OnRanks

KNOWN = json.loads((table.KNOWN / f"{RELEASES[-1]}.json").read_text())


def test_every_kind_and_fault_has_a_row() -> None:
    assert list(KNOWN) == list(table.ROWS)
    assert len(KNOWN) >= 40
    assert set(FOLDERS) < table.LOADS


@pytest.mark.parametrize("name", table.ROWS)
def test_patch_carries_what_loads_and_refuses_the_rest(name: str) -> None:
    cells = KNOWN[name]
    assert list(table._problems({name: cells})) == []
    assert (cells[PATCHED] == RIGHT) is (name in table.LOADS)


def test_row_that_is_no_longer_carried_is_a_problem() -> None:
    changed = KNOWN["links"] | {PATCHED: "fails: CheckpointError: ..."}
    [known] = differences(KNOWN, {"links": changed})
    [right, loads] = table._problems({"links": changed})
    assert known.startswith("links: known as ")
    assert right == "links: right as the release is, and patched fails: CheckpointError: ..."
    assert loads == "links does not load: fails: CheckpointError: ..."
    changed = KNOWN["shard-empty"] | {PATCHED: KNOWN["shard-empty"][UPSTREAM]}
    assert len(list(table._problems({"shard-empty": changed}))) == 1


def test_page_is_the_known_table(pytestconfig: pytest.Config) -> None:
    assert (pytestconfig.rootpath / "docs" / "folders.md").read_text(encoding="utf-8") == page.page()


@pytest.mark.megatron
def test_folder_is_read_in_every_way(tmp_path: Path, on_ranks: OnRanks) -> None:
    spec = CheckpointSpec(preset("qwen3.6-35b-a3b"))
    adapters = (MEGATRON_BRIDGE, PATCHED_MEGATRON_BRIDGE)
    sound = spec.write(tmp_path / "sound")
    overlay = write_faulty(spec, "overlay", tmp_path / "one" / "overlay")
    [cells] = on_ranks(measure, overlay, sound, spec, adapters)
    assert cells == tuple(KNOWN["overlay"].values())
    other = CheckpointSpec(preset("qwen3.6-35b-a3b"), seed=1)
    folder = other.write(tmp_path / "two" / "overlay")
    [cells] = on_ranks(measure, folder, sound, spec, adapters)
    assert [cell.partition(":")[0] for cell in cells[:3]] == [WRONG] * 3
