"""Any config and any record is read or refused, and no link out of the folder is followed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtp_bridge_patch.fixes.config_only.record import FILE_NAME, ExportRecord
from mtp_checkpoint.errors import CheckpointError
from mtp_checkpoint.files.checkpoint import read_checkpoint
from mtp_checkpoint.files.index import INDEX_NAME
from mtp_checkpoint.inspection.declaration import CONFIG_NAME, Declaration
from mtp_checkpoint.layouts.expert_layout import ExpertLayout

# Other processes may hold the cores meanwhile, so the time an example takes says nothing.


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with the fields of configs, records and indexes, and others."""
    names = "text_config num_experts hidden_size intermediate_size decoder mtp float32 weight_map metadata"
    return st.dictionaries(st.sampled_from(names.split()) | st.text(max_size=4), inner, max_size=6)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | objects(inner), max_leaves=8)
documents = st.binary(max_size=80) | objects(values).map(lambda document: json.dumps(document).encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


def short_message(error: CheckpointError, folder: Path) -> bool:
    return bool(error.problems) and str(error).isprintable() and len(str(error)) < 3000 + len(str(folder))


@given(content=documents)
def test_any_config_is_read_or_refused(folder: Path, content: bytes) -> None:
    (folder / CONFIG_NAME).write_bytes(content)
    try:
        declaration = Declaration.read(folder)
    except CheckpointError as error:
        assert short_message(error, folder)  # noqa: PT017 (it may be read as well)
        return
    assert declaration is not None
    for size in vars(declaration).values():
        assert size is None or (type(size) is int and size >= 0)


layouts = st.sampled_from([*ExpertLayout]) | values
records = st.fixed_dictionaries({"decoder": layouts, "mtp": layouts, "float32": st.lists(st.text()) | values})


@given(content=documents | records.map(lambda record: json.dumps(record).encode()))
def test_any_record_is_read_as_it_is_or_refused(folder: Path, content: bytes) -> None:
    try:
        record = ExportRecord.from_json(content, "record")
    except CheckpointError as error:
        assert short_message(error, folder)  # noqa: PT017 (it may be read as well)
        return
    fields = json.loads(content)
    assert isinstance(fields["float32"], list)
    read = (record.decoder, record.mtp, set(record.float32))
    assert read == (
        fields["decoder"],
        fields["mtp"],
        set(fields["float32"]),
    )


@given(content=documents)
def test_any_index_of_a_folder_is_refused_where_it_names_no_shard(folder: Path, content: bytes) -> None:
    (folder / INDEX_NAME).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder)
    assert short_message(caught.value, folder)


@pytest.mark.parametrize("value", ["null", "1", '"text"', "[]", "true"])
def test_text_config_that_is_no_object_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / CONFIG_NAME).write_text(f'{{"text_config": {value}}}')
    with pytest.raises(CheckpointError, match="its text_config is no JSON object"):
        Declaration.read(tmp_path)


@pytest.mark.parametrize("names", ["text", {"a": 1}, ["a", 1], [["a"]], [None]])
def test_record_whose_float32_is_no_list_of_names_is_refused(names: object) -> None:
    text = json.dumps({"decoder": "packed", "mtp": "packed", "float32": names})
    with pytest.raises(CheckpointError, match="float32 is no list of names"):
        ExportRecord.from_json(text.encode(), "record")


def test_message_on_a_record_is_short() -> None:
    text = json.dumps({"decoder": "x" * 100_000, "mtp": "packed", "float32": []})
    with pytest.raises(CheckpointError) as caught:
        ExportRecord.from_json(text.encode(), "record")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("read", [Declaration.read, ExportRecord.read])
def test_links_are_followed_and_those_that_lead_nowhere_named(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    inside, outside = tmp_path / "checkpoint", tmp_path / "outside"
    inside.mkdir()
    outside.write_text('{"decoder": "packed", "mtp": "packed", "float32": []}')
    for name in (CONFIG_NAME, FILE_NAME):
        (inside / name).symlink_to("../outside")
    assert read(inside) is not None
    outside.unlink()
    with pytest.raises(CheckpointError, match=r"is a link to \.\./outside, which is not there"):
        read(inside)


@pytest.mark.parametrize("read", [Declaration.read, ExportRecord.read])
def test_link_to_itself_is_refused_and_not_overlooked(tmp_path: Path, read: Callable[[Path], object]) -> None:
    for name in (CONFIG_NAME, FILE_NAME):
        (tmp_path / name).symlink_to(name)
    with pytest.raises(CheckpointError, match="Too many levels of symbolic links"):
        read(tmp_path)
