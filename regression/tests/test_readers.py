"""What an engine holds, joined and stacked, is taken apart into the checkpoint that it has read."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mtp_checkpoint.layouts.keys import parse
from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.adapters.readers.reader import Reader
from mtp_regression.comparison.compare import compare
from mtp_regression.comparison.tensors import RawTensor, read_folder
from mtp_regression.comparison.verdicts import Verdict

Q36, Q35 = "qwen3.6-35b-a3b", "qwen3.5-35b-a3b"
MTP = "mtp.layers.0."


class Engine(Reader):
    """Holds one MTP layer as vLLM does, and everything else as it is stored."""

    def load(self, checkpoint: Path) -> None:
        self.tensors = dict(self.read(checkpoint))
        stacked = MTP + "mlp.experts.routed_experts."
        experts = {key for key in self.tensors if parse(key).projection and key.startswith("mtp.")}
        packed = {key: self.tensors.pop(key) for key in experts}
        if len(packed) > 2:
            names = [f"{MTP}mlp.experts.{{}}.{part}_proj.weight" for part in ("gate", "up", "down")]
            gate, up, down = (
                torch.stack([packed[name.format(expert)] for expert in range(len(packed) // 3)])
                for name in names
            )
            w13, w2 = torch.cat((gate, up), 1), down
        else:
            w13, w2 = packed[MTP + "mlp.experts.gate_up_proj"], packed[MTP + "mlp.experts.down_proj"]
        self.tensors |= {stacked + "w13_weight": w13, stacked + "w2_weight": w2}
        parts = [self.tensors.pop(f"{MTP}self_attn.{part}_proj.weight") for part in ("q", "k", "v")]
        self.tensors[MTP + "self_attn.qkv_proj.weight"] = torch.cat(parts)

    def named(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from self.tensors.items()


def found(engine: Engine, source: Path) -> list[tuple[str, Verdict]]:
    export = ((name, RawTensor.of(tensor)) for name, tensor in engine.stream())
    return [(finding.tensor, finding.verdict) for finding in compare(read_folder(source), export)]


@pytest.mark.parametrize("model", [Q36, Q35])
def test_both_layouts_come_back(model: str, make_checkpoint: MakeCheckpoint) -> None:
    source, engine = make_checkpoint(model), Engine()
    engine.load(source)
    assert not found(engine, source)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("mlp.experts.routed_experts.w13_weight", "mlp.experts.gate_up_proj"),
        ("mlp.experts.routed_experts.w2_weight", "mlp.experts.down_proj"),
        ("self_attn.qkv_proj.weight", "self_attn.q_proj.weight"),
    ],
)
def test_one_element_that_was_not_loaded_shows(
    name: str, tensor: str, make_checkpoint: MakeCheckpoint
) -> None:
    source, engine = make_checkpoint(Q36), Engine()
    engine.load(source)
    engine.tensors[MTP + name].view(-1)[0] = float("nan")
    assert found(engine, source) == [(MTP + tensor, Verdict.POISONED)]


def test_what_has_no_place_in_the_checkpoint_shows(make_checkpoint: MakeCheckpoint) -> None:
    source, engine = make_checkpoint(Q36), Engine()
    engine.load(source)
    engine.tensors["mtp.layers.1.input_layernorm.weight"] = torch.zeros(3)
    assert found(engine, source) == [("mtp.layers.1.input_layernorm.weight", Verdict.UNEXPECTED)]


def test_a_tensor_of_another_size_keeps_it(make_checkpoint: MakeCheckpoint) -> None:
    source, engine = make_checkpoint(Q36), Engine()
    engine.load(source)
    engine.tensors["mtp.norm.weight"] = engine.tensors["mtp.norm.weight"][:-1]
    qkv = engine.tensors[MTP + "self_attn.qkv_proj.weight"]
    engine.tensors[MTP + "self_attn.qkv_proj.weight"] = qkv[:-1]
    names = [MTP + f"self_attn.{part}_proj.weight" for part in ("k", "q", "v")]
    assert found(engine, source) == [
        *((name, Verdict.MISSING) for name in names[:2]),
        (MTP + "self_attn.qkv_proj.weight", Verdict.UNEXPECTED),
        (names[2], Verdict.MISSING),
        ("mtp.norm.weight", Verdict.WRONG),
    ]


class Padded(torch.nn.Embedding):
    org_vocab_size = 5


class TwoModels(Reader):
    """A model, and one for MTP with its own embedding; both embeddings are padded."""

    def __init__(self) -> None:
        self.model = torch.nn.ModuleDict({"main": Padded(8, 4), "mtp": Padded(8, 4)})
        self.model["mtp"].weight.data[:5] = self.model["main"].weight.data[:5]

    def names(self) -> dict[str, tuple[int, ...]]:
        held = self.held({"main.": "embed_tokens.", "mtp.": "embed_tokens."})
        return {name: tuple(tensor.shape) for name, tensor in held}


def test_copies_are_one_unless_they_differ() -> None:
    engine = TwoModels()
    assert engine.names() == {"embed_tokens.weight": (5, 4)}
    engine.model["mtp"].weight.data[0, 0] += 1
    assert engine.names() == {"embed_tokens.weight": (5, 4), "mtp.weight": (5, 4)}
