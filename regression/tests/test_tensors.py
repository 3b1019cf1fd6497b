"""Reading checkpoint folders: every problem is named, no path of an index leads out of the folder."""

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from mtp_checkpoint.errors import CheckpointError
from mtp_checkpoint.files.index import INDEX_NAME
from mtp_fixtures import CheckpointSpec, preset
from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.comparison.stored import Stored
from mtp_regression.comparison.tensors import RawTensor, read_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return CheckpointSpec(preset("qwen3.6-35b-a3b")).write(tmp_path / "checkpoint")


def change_index(folder: Path, **entries: str | None) -> None:
    index = json.loads((folder / INDEX_NAME).read_text())
    for name, shard in entries.items():
        if shard is None:
            del index["weight_map"][name]
        else:
            index["weight_map"][name] = shard
    (folder / INDEX_NAME).write_text(json.dumps(index))


def test_every_tensor_is_read(folder: Path) -> None:
    spec = CheckpointSpec(preset("qwen3.6-35b-a3b"))
    read = read_folder(folder)
    assert read.keys() == {tensor.name for tensor in spec.tensors}
    for tensor in spec.tensors:
        got = read[tensor.name]
        assert (got.dtype, got.shape, got.data.tobytes()) == (tensor.dtype, tensor.shape, spec.data(tensor))


@pytest.mark.parametrize("size", [0, 5, 2**20 - 1, 2**20, 2**20 + 1])
def test_bytes_of_any_size_are_those_of_the_file_or_an_error(size: int, tmp_path: Path) -> None:
    content = np.arange(size + 3, dtype=np.uint8)
    content.tofile(tmp_path / "file")
    found = Stored(tmp_path / "file", 3, size)()
    assert np.array_equal(found, content[3:])
    assert not found.flags.writeable or not size
    with pytest.raises(ValueError, match=r"ends at byte|length is greater"):
        Stored(tmp_path / "file", 3, size + 1)()


def test_folder_without_an_index_is_read(folder: Path) -> None:
    with_index = read_folder(folder)
    (folder / INDEX_NAME).unlink()
    assert read_folder(folder).keys() == with_index.keys()


@pytest.mark.parametrize(
    "shard", ["../outside.safetensors", "/etc/outside.safetensors", "sub/../../outside.safetensors"]
)
def test_shard_outside_the_folder_is_refused(folder: Path, shard: str) -> None:
    shutil.copy(next(folder.glob("*.safetensors")), folder.parent / "outside.safetensors")
    change_index(folder, **{"lm_head.weight": shard})
    with pytest.raises(CheckpointError, match=rf"lm_head\.weight is no path inside the folder: {shard}"):
        read_folder(folder)


def test_what_the_index_says_is_read(folder: Path, make_checkpoint: MakeCheckpoint) -> None:
    expected = {name: tensor.data.tobytes() for name, tensor in read_folder(folder).items()}
    for kind in ("links", "subfolder", "overlay", "other-experts", "single-beside-index", "stale-index"):
        found = read_folder(make_checkpoint("qwen3.6-35b-a3b", folder=kind))
        assert {name: tensor.data.tobytes() for name, tensor in found.items()} == expected, kind


def test_contradictions_are_listed_together(folder: Path) -> None:
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    wrong_shard = shards[0] if "mtp.norm.weight" not in _names(folder / shards[0]) else shards[1]
    right_shard = next(name for name in shards if "mtp.norm.weight" in _names(folder / name))
    shutil.copy(folder / right_shard, folder / "copy.safetensors")
    change_index(folder, **{"mtp.norm.weight": wrong_shard, "absent": shards[0]})
    with pytest.raises(CheckpointError) as caught:
        read_folder(folder)
    message = str(caught.value)
    assert "2 problems" in message
    assert f"{shards[0]} lacks 1 tensor (absent)" in message
    assert f"{wrong_shard} lacks 1 tensor (mtp.norm.weight)" in message
    assert f"nothing says which counts, of {right_shard} and copy.safetensors" in message


def _names(shard: Path) -> str:
    header = shard.read_bytes()
    return header[8 : 8 + int.from_bytes(header[:8], "little")].decode()


def test_truncated_and_absent_shards_are_named(folder: Path) -> None:
    first, second, *_ = sorted(folder.glob("*.safetensors"))
    first.write_bytes(first.read_bytes()[:-1])
    second.unlink()
    with pytest.raises(CheckpointError) as caught:
        read_folder(folder)
    assert first.name in str(caught.value)
    assert second.name in str(caught.value)


def test_header_longer_than_the_file_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is no JSON"),
        ("[]", "is no JSON object"),
        ('{"weight_map": 1}', "its weight_map is no map"),
        ('{"weight_map": {"a": 1}}', "is no path inside the folder"),
    ],
)
def test_malformed_index_is_refused(folder: Path, text: str, problem: str) -> None:
    (folder / INDEX_NAME).write_text(text)
    with pytest.raises(CheckpointError, match=problem):
        read_folder(folder)


def test_empty_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no safetensors file"):
        read_folder(tmp_path)


def test_tensor_in_two_shards_is_an_error(folder: Path) -> None:
    (folder / INDEX_NAME).unlink()
    shutil.copy(shard := next(folder.glob("*.safetensors")), folder / "zz.safetensors")
    read_folder(folder)  # the same bytes
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    with pytest.raises(CheckpointError, match=r"and in zz\.safetensors"):
        read_folder(folder)


def test_shard_without_data_is_read(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"BF16","shape":[2,0],"data_offsets":[0,0]}}'
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    read = read_folder(tmp_path)
    assert read["a"].array().shape == (2, 0)


def test_torch_tensors_keep_their_bytes() -> None:
    import torch

    values = torch.arange(24, dtype=torch.bfloat16).reshape(4, 6).T
    raw = RawTensor.from_torch(values)
    assert (raw.dtype, raw.shape) == ("BF16", (6, 4))
    assert np.array_equal(raw.array(), np.arange(24, dtype=ml_dtypes.bfloat16).reshape(4, 6).T)
    assert RawTensor.from_torch(torch.tensor(1.5)).array().shape == ()
    with pytest.raises(ValueError, match="complex64"):
        RawTensor.from_torch(torch.zeros(1, dtype=torch.complex64))
