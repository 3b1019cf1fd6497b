"""The record of a checkpoint's layouts, which a Megatron checkpoint keeps."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtp_bridge_patch.fixes.config_only.record import FILE_NAME, ExportRecord
from mtp_checkpoint.errors import CheckpointError
from mtp_checkpoint.files.untrusted import MAX_JSON_SIZE
from mtp_checkpoint.layouts.expert_layout import ExpertLayout

RECORD = ExportRecord(ExpertLayout.PACKED, ExpertLayout.PER_EXPERT, frozenset({"b.A_log", "a.norm.weight"}))
FIELDS = {"decoder": "packed", "mtp": "per-expert", "float32": ["a.norm.weight", "b.A_log"]}


def test_mtp_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert ExportRecord.read(tmp_path) is None
    RECORD.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    assert json.loads((tmp_path / FILE_NAME).read_bytes()) == FIELDS
    assert ExportRecord.read(tmp_path) == RECORD


@pytest.mark.parametrize("layout", ExpertLayout)
def test_mtp_record_has_every_layout(layout: ExpertLayout) -> None:
    record = ExportRecord(layout, layout)
    assert ExportRecord.from_json(record.to_json().encode(), "record") == record


def test_second_record_replaces_the_first(tmp_path: Path) -> None:
    RECORD.write(tmp_path)
    other = ExportRecord(ExpertLayout.ABSENT, ExpertLayout.PACKED)
    other.write(tmp_path)
    assert ExportRecord.read(tmp_path) == other


def test_record_is_kept_on_every_config() -> None:
    configs = [SimpleNamespace(), SimpleNamespace()]
    RECORD.put_on(configs)
    assert [ExportRecord.on(config) for config in configs] == [RECORD, RECORD]
    # Upstream stores the attributes of a config as YAML: nothing but plain text may be among them.
    assert [type(value) for value in vars(configs[0]).values()] == [str]
    assert ExportRecord.on(SimpleNamespace()) is None


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in FIELDS.items() if key != name}


BAD = {
    "no JSON": (b"{", "is no JSON"),
    "no text": (b"\xff{}", "is not UTF-8"),
    "no object": (b"[]", "is no JSON object"),
    "twice": (b'{"mtp":"packed","mtp":"packed"}', "key mtp occurs twice"),
    "layout": (json.dumps({**FIELDS, "mtp": "rows"}).encode(), "'rows' is not a valid ExpertLayout"),
    "layout is a list": (json.dumps({**FIELDS, "decoder": []}).encode(), r"\[\] is not a valid ExpertLayout"),
    "names": (json.dumps({**FIELDS, "float32": 1}).encode(), "'int' object is not iterable"),
    **{f"no {name}": (json.dumps(without(name)).encode(), f"'{name}'") for name in FIELDS},
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_bad_record_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / FILE_NAME).write_bytes(text)
    with pytest.raises(CheckpointError, match=message) as caught:
        ExportRecord.read(tmp_path)
    assert caught.value.where == str(tmp_path / FILE_NAME)
    with pytest.raises(CheckpointError, match=message):
        ExportRecord.from_json(text, "record")


def test_oversize_record_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / FILE_NAME).open("wb") as file:
        file.truncate(MAX_JSON_SIZE + 1)
    monkeypatch.setattr(ExportRecord, "from_json", lambda *_: pytest.fail("it was read"))
    with pytest.raises(CheckpointError, match="its 100000001 bytes are over the limit of 100000000"):
        ExportRecord.read(tmp_path)


def test_folder_for_a_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(CheckpointError):
        ExportRecord.read(tmp_path)
