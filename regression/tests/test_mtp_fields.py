"""The table of fields of `config.json`: nothing published is left out, and a wrong model shows in it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtp_bridge_patch.releases import ENVIRONMENTS
from mtp_fixtures import PRESETS, CheckpointSpec
from mtp_fixtures.companions.changes import changed
from mtp_regression.adapters import PATCHED_MEGATRON_BRIDGE
from mtp_regression.maintenance.fields import changes, page, table
from mtp_regression.maintenance.fields.measure import measure
from mtp_regression.plugin import OnRanks

ROWS = [*changes.rows()]
FAULTS = "mtp_regression.maintenance.forward.faults:"


def leaves(fields: dict[str, Any], before: str = "") -> Iterator[str]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{before}{name}.")
        else:
            yield before + name


@pytest.mark.parametrize("name", [name for name in PRESETS if "next" not in name and "fp8" not in name])
def test_every_published_field_is_changed(name: str) -> None:
    config = json.loads(CheckpointSpec(PRESETS[name]).plan().texts["config.json"])
    parts = {"": changes.TOP, "text_config.": changes.TEXT, "vision_config.": changes.VISION}
    if "text_config" not in config:
        parts[""] = {**changes.TOP, **changes.TEXT}
    assert set(leaves(config)) <= {before + field for before, part in parts.items() for field in part}


def test_every_row_is_a_checkpoint_of_its_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        before, after = (
            json.loads(spec.plan().texts["config.json"])
            for spec in (replace(row.spec(), config_changes=()), row.spec())
        )
        assert after == changed(before, row.changes)


@pytest.mark.parametrize("release", ENVIRONMENTS)
def test_patched_release_never_computes_something_else(release: str) -> None:
    known = json.loads((table.KNOWN / f"{release}.json").read_text())
    assert list(known) == [row.name for row in ROWS]
    for name, cells in known.items():
        assert cells["patched"] != "differs" or cells["transformers"].startswith("refuses"), name
        assert cells["patched"] == "agrees" or ":" in cells["patched"] or "refuses" in cells["transformers"]


def test_page_is_the_known_table(pytestconfig: pytest.Config) -> None:
    assert Path(pytestconfig.rootpath, "docs", "config.md").read_text(encoding="utf-8") == page.page()


@pytest.mark.megatron
def test_wrong_models_differ(on_ranks: OnRanks, tmp_path: Path) -> None:
    [row] = [row for row in ROWS if row.name == "text-only MoE: rms_norm_eps=0.001"]
    checkpoint = row.spec().write(tmp_path / "checkpoint")
    adapters = (PATCHED_MEGATRON_BRIDGE, FAULTS + "EpsilonOfLayerNorm", FAULTS + "RotaryBaseOfLlama")
    [measured] = on_ranks(measure, checkpoint, adapters, row.names)
    assert measured.refusal == ""
    assert list(measured.reference) == ["main", "mtp.0"]
    assert measured.cells == ("agrees", "differs", "differs")


@pytest.mark.megatron
def test_error_that_names_the_field_is_a_refusal(on_ranks: OnRanks, tmp_path: Path) -> None:
    [row] = [row for row in ROWS if row.name.startswith("text-only MoE: rope_parameters.rope_type=prop")]
    checkpoint = row.spec().write(tmp_path / "checkpoint")
    [measured] = on_ranks(measure, checkpoint, (PATCHED_MEGATRON_BRIDGE,), row.names)
    assert measured.cells[0].startswith("refuses: UnsupportedConfigError: config.json asks for rope_type")
    [measured] = on_ranks(measure, checkpoint, (PATCHED_MEGATRON_BRIDGE,), ("of_another_name",))
    assert measured.cells[0].startswith("fails: UnsupportedConfigError")


def test_a_row_continues_what_it_changes_further() -> None:
    whole, wide, more = (
        changes.Row("MoE"),
        changes.Row("MoE", "head_dim", ("a=1",)),
        changes.Row("MoE", "b", ("a=1", "b=2")),
    )
    assert [row for row in (whole, wide, more) if more.continues(row)] == [whole, wide]
    assert [row for row in (whole, wide, more) if wide.continues(row)] == [whole]
    assert not more.continues(changes.Row("dense"))
