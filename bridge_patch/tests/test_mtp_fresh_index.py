"""The index of a folder is the one that is in it now."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

import mtp_bridge_patch


@pytest.fixture
def reader(release: str) -> Any:
    del release
    return importlib.import_module("megatron.bridge.models.hf_pretrained.state").SafeTensorsStateSource


def test_mtp_index_that_was_written_anew_is_read(reader: Any, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    found = []
    mtp_bridge_patch.apply(only=["fresh-index"])
    for weight_map in ({"a": "1"}, {"a": "1", "mtp.b": "2"}):
        index.write_text(json.dumps({"weight_map": weight_map}))
        found.append(reader()._cached_get_key_to_filename_map(tmp_path))
    index.unlink()
    assert [*found, reader()._cached_get_key_to_filename_map(tmp_path)] == [
        {"a": "1"},
        {"a": "1", "mtp.b": "2"},
        None,
    ]


def test_reverted_it_is_upstreams(reader: Any) -> None:
    upstream = vars(reader)["_cached_get_key_to_filename_map"]
    mtp_bridge_patch.apply(only=["fresh-index"])
    assert reader._cached_get_key_to_filename_map is upstream.__func__.__wrapped__
    mtp_bridge_patch.revert()
    assert vars(reader)["_cached_get_key_to_filename_map"] is upstream
