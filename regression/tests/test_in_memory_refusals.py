"""The in-memory bridge refuses what contradicts itself, with the layer or the key, and nothing else."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtp_checkpoint import CheckpointError, LayoutError
from mtp_checkpoint.layouts.keys import HEAD
from mtp_fixtures import FAULTS, CheckpointSpec, preset, write_faulty
from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.comparison.other_checkpoint import write_checkpoint
from mtp_regression.comparison.tensors import RawTensor, Tensors, read_folder
from mtp_regression.in_memory.bridge import InMemoryBridge, SharedWeightsError
from mtp_regression.in_memory.conversions import Array
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.threads import ThreadRank, run_threads

Q36, DENSE, TIED, FP8 = "qwen3.6-35b-a3b", "qwen3.6-27b", "qwen3.5-0.8b", "qwen3.6-35b-a3b-fp8"
LOADS = ("misleading-name", "gate-up-swapped", "non-finite", "tensor-twice", "symlink-outside", "total-size")
"""What contradicts nothing that a loader sees."""
ATTENTION, EMBEDDING = "mtp.layers.0.self_attn.", "model.language_model.embed_tokens.weight"


def load(folder: Path, parallel: Parallel = Parallel()) -> list[InMemoryBridge]:  # noqa: B008
    def on(rank: ThreadRank) -> InMemoryBridge:
        bridge = InMemoryBridge()
        bridge.world = rank
        bridge.build(folder, parallel)
        bridge.load(folder)
        return bridge

    if parallel.ranks == 1:  # an exception as it is
        return [on(ThreadRank(0, 1, None))]  # type: ignore[arg-type]
    return run_threads(on, size=parallel.ranks, time_limit=60)


def _possible() -> Iterator[tuple[str, str]]:
    """The contradictions that a mixture of experts and a dense model can have."""
    for model, name in product((Q36, DENSE), FAULTS):
        with suppress(ValueError):
            FAULTS[name].needs(CheckpointSpec(preset(model)))
            if name not in LOADS:
                yield model, name


@pytest.mark.parametrize(("model", "name"), list(_possible()))
def test_a_contradiction_is_refused(model: str, name: str, tmp_path: Path) -> None:
    folder = write_faulty(CheckpointSpec(preset(model)), name, tmp_path / "checkpoint")
    with pytest.raises(InMemoryBridge.refusals) as refused:
        load(folder)
    assert str(folder) in str(refused.value)
    assert isinstance(refused.value, CheckpointError | LayoutError)
    where = _WHERE if isinstance(refused.value, LayoutError) else re.compile(r"\.safetensors")
    assert all(where.search(problem) for problem in refused.value.problems)


_WHERE = re.compile(r"MTP|mtp\.|decoder|lm_head\.weight")


@pytest.mark.parametrize("name", LOADS)
def test_what_no_loader_can_tell_is_loaded(name: str, tmp_path: Path) -> None:
    load(write_faulty(CheckpointSpec(preset(Q36)), name, tmp_path / "checkpoint"))


def _without(key: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name != key}


def _with(key: str, like: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, key: tensors[like]}


def _flat(key: str) -> Callable[[Tensors], Tensors]:
    def flat(tensors: Tensors) -> Tensors:
        tensor = tensors[key]
        return {**tensors, key: RawTensor(tensor.dtype, tensor.shape[::-1], tensor.data)}

    return flat


def _bytes(key: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, key: RawTensor.from_array(np.zeros(tensors[key].shape, np.int8))}


def _head(of: Callable[[Array], Array]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, HEAD: RawTensor.from_array(of(tensors[EMBEDDING].array()))}


@pytest.mark.parametrize(
    ("model", "change", "message"),
    [
        (Q36, _without(ATTENTION + "q_norm.weight"), "mtp.layers.0.self_attn.q_norm.weight is missing"),
        (Q36, _without("model.visual.pos_embed.weight"), "model.visual.pos_embed.weight is missing"),
        (Q36, _with("mtp.extra.weight", "mtp.norm.weight"), "mtp.extra.weight: .* no such tensor"),
        (Q36, _flat(ATTENTION + "o_proj.weight"), r"self_attn.o_proj.weight is \[\d+, \d+\], by config"),
        (Q36, _bytes("mtp.norm.weight"), "mtp.norm.weight is I8"),
        (FP8, _without(ATTENTION + "o_proj.weight_scale_inv"), "o_proj.weight is FP8"),
        (FP8, _flat(ATTENTION + "k_proj.weight_scale_inv"), "k_proj.weight is FP8"),
        (FP8, _with("mtp.norm.weight_scale_inv", "mtp.norm.weight"), "scales of no FP8 weight"),
        (TIED, _head(lambda embedding: embedding[::-1]), "lm_head.weight is not the embedding"),
        (TIED, _head(lambda embedding: embedding.reshape(-1, 2)), "lm_head.weight is not the embedding"),
    ],
)
def test_tensors_are_those_of_the_model(
    model: str,
    change: Callable[[Tensors], Tensors],
    message: str,
    make_checkpoint: MakeCheckpoint,
    tmp_path: Path,
) -> None:
    source = make_checkpoint(model)
    folder = write_checkpoint(tmp_path / "changed", change(read_folder(source)), like=source)
    with pytest.raises(LayoutError, match=message):
        load(folder)


def test_a_stored_copy_of_the_embedding_is_exported(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    source = make_checkpoint(TIED)
    tensors = _with(HEAD, EMBEDDING)(read_folder(source))
    (bridge,) = load(write_checkpoint(tmp_path / "with-head", tensors, like=source), Parallel())
    bridge.world = ThreadRank(0, 1, _Alone())  # type: ignore[arg-type]
    exported = dict(bridge.stream())
    assert exported.keys() == tensors.keys()
    assert exported[HEAD].tobytes() == exported[EMBEDDING].tobytes()
    assert not np.shares_memory(exported[HEAD], exported[EMBEDDING])


class _Alone:
    """Where one rank meets nobody."""

    def __init__(self) -> None:
        self.brought: list[Any] = [None]
        self.barrier = self

    def wait(self) -> None:
        pass


def test_a_dimension_that_is_missing_is_named(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    source = make_checkpoint(Q36)
    config = json.loads((source / "config.json").read_text())
    del config["text_config"]["head_dim"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(LayoutError, match=r"config\.json has no head_dim"):
        load(tmp_path)


def test_copies_that_differ_are_not_exported(make_checkpoint: MakeCheckpoint) -> None:
    (bridge,) = load(make_checkpoint(Q36, mtp_layers=2))
    bridge.world = ThreadRank(0, 1, _Alone())  # type: ignore[arg-type]
    bridge.model["0/mtp.layers.1.enorm.weight"][0] += 1
    with pytest.raises(
        SharedWeightsError, match=r"mtp\.layers\.0\.enorm.* and mtp\.layers\.1\.enorm.* differ"
    ):
        list(bridge.stream())
