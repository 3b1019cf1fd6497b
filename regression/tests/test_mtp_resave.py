"""What `save_pretrained` makes of a checkpoint is what the variants of re-saves hold, byte for byte."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mtp_fixtures import CheckpointSpec, ExpertLayout, Variant, preset
from mtp_fixtures.families.resaved import RESAVED_FILES
from mtp_fixtures.plugin import MakeCheckpoint
from mtp_fixtures.shards.file_style import INDEX_NAME
from mtp_fixtures.shards.sharding import Shard
from mtp_fixtures.writing.manifest import MANIFEST_NAME

from .transformers_models import load, one_by_one, one_thread, read  # noqa: F401 - one is a fixture

pytestmark = pytest.mark.usefixtures("one_thread")

VISION, CAUSAL = "AutoModelForImageTextToText", "AutoModelForCausalLM"
DENSE, DENSE_TIED, MOE35, MOE36 = "qwen3.6-27b", "qwen3.5-0.8b", "qwen3.5-35b-a3b", "qwen3.6-35b-a3b"
SAVED = {"config.json", "generation_config.json", "model.safetensors"}
LIMIT = 1_000_000
"""Bytes of data in a shard, more than the largest tensor has: save_pretrained closes a shard before it."""


@dataclass
class Resave:
    """A published checkpoint, a model that came from it, and what was saved.

    Attributes:
        name: The preset's name.
        text_only: Whether the checkpoint has no vision tower.
        published: Its folder.
        model: The model.
        saved: The folder in which the model was saved.
    """

    name: str
    text_only: bool
    published: Path
    model: Any
    saved: Path

    def spec(self, variant: Variant, **options: Any) -> CheckpointSpec:
        """Return what the generator makes in place of what was saved."""
        return CheckpointSpec(preset(self.name), text_only=self.text_only, variant=variant, **options)


FORMS = [(name, text_only) for name in (DENSE, DENSE_TIED, MOE35, MOE36) for text_only in (False, True)]
FORM_IDS = [f"{name}{'-text-only' * text_only}" for name, text_only in FORMS]


@pytest.fixture(scope="module", params=FORMS, ids=FORM_IDS)
def published(request: pytest.FixtureRequest, make_checkpoint: MakeCheckpoint) -> tuple[str, bool, Path]:
    name, text_only = request.param
    return name, text_only, make_checkpoint(name, text_only=text_only)


@pytest.fixture(scope="module")
def loaded(published: tuple[str, bool, Path], tmp_path_factory: pytest.TempPathFactory) -> Resave:
    name, text_only, folder = published
    model = load(folder, CAUSAL if text_only else VISION)
    saved = tmp_path_factory.mktemp("saved")
    model.save_pretrained(saved)
    return Resave(name, text_only, folder, model, saved)


@pytest.fixture(scope="module")
def built(published: tuple[str, bool, Path], tmp_path_factory: pytest.TempPathFactory) -> Resave:
    import torch
    import transformers

    name, text_only, folder = published
    config = transformers.AutoConfig.from_pretrained(folder)
    auto = getattr(transformers, CAUSAL if text_only else VISION)
    model = auto.from_config(config, dtype=torch.bfloat16)
    saved = tmp_path_factory.mktemp("saved")
    model.save_pretrained(saved)
    return Resave(name, text_only, folder, model, saved)


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} - {MANIFEST_NAME}


def header(file: Path) -> dict[str, Any]:
    """Parse a safetensors file's header: name to dtype, shape and place; `__metadata__` too."""
    content = file.read_bytes()
    header: dict[str, Any] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return header


def kinds(folder: Path) -> dict[str, tuple[str, list[int]]]:
    """Dtype and shape of each tensor."""
    return {
        name: (entry["dtype"], entry["shape"])
        for file in folder.glob("*.safetensors")
        for name, entry in header(file).items()
        if name != "__metadata__"
    }


def test_loaded_and_saved(loaded: Resave, tmp_path: Path) -> None:
    # See test_packed_decoder_is_unpacked_where_mtp_experts_are_not.
    mixed = loaded.name == MOE35 and loaded.text_only
    decoder = ExpertLayout.PER_EXPERT if mixed else None
    variant = loaded.spec(Variant.MTP_DROPPED, decoder_experts=decoder).write(tmp_path / "variant")
    assert names(loaded.saved) == SAVED
    for name in ("config.json", "generation_config.json"):
        assert (loaded.saved / name).read_bytes() == (variant / name).read_bytes()
    assert header(loaded.saved / "model.safetensors") == header(variant / "model.safetensors")
    assert (loaded.saved / "model.safetensors").read_bytes() == (variant / "model.safetensors").read_bytes()
    # What transformers' tokenizer and processor save on their own is as published in the variant.
    kept = names(loaded.published) - SAVED
    kept = {name for name in kept if not name.endswith((".safetensors", INDEX_NAME))}
    assert names(variant) == SAVED | kept
    for name in kept:
        assert (variant / name).read_bytes() == (loaded.published / name).read_bytes()


def test_mtp_put_back(loaded: Resave, make_checkpoint: MakeCheckpoint) -> None:
    """FLOAT32_LOST: the loaded model and the published MTP tensors."""
    import torch

    folder = make_checkpoint(loaded.name, text_only=loaded.text_only, variant="resaved-float32-lost")
    mtp = {name: tensor for name, tensor in read(loaded.published).items() if name.startswith("mtp.")}
    assert mtp
    expected, found = one_by_one(read(loaded.saved) | mtp), one_by_one(read(folder))
    assert found.keys() == expected.keys()
    assert all(tensor.dtype == torch.bfloat16 for tensor in found.values())
    assert not [name for name, tensor in found.items() if not torch.equal(tensor, expected[name])]


def test_built_and_saved(built: Resave, make_checkpoint: MakeCheckpoint) -> None:
    """All but the values, which are random there."""
    variant = make_checkpoint(built.name, text_only=built.text_only, variant="resaved-per-expert-decoder")
    assert names(built.saved) == SAVED
    assert kinds(built.saved) == kinds(variant)
    assert header(built.saved / "model.safetensors")["__metadata__"] == {"format": "pt"}
    assert (built.saved / "config.json").read_bytes() == (variant / "config.json").read_bytes()
    generation = "generation_config.json"
    assert (built.saved / generation).read_bytes() == (variant / generation).read_bytes()


@pytest.mark.parametrize("published", [(name, False) for name in (DENSE, DENSE_TIED, MOE36)], indirect=True)
def test_shards_of_a_loaded_model(loaded: Resave, tmp_path: Path) -> None:
    loaded.model.save_pretrained(tmp_path / "saved", max_shard_size=LIMIT)
    saved = tmp_path / "saved"
    variant = loaded.spec(Variant.MTP_DROPPED, shard_limit=LIMIT).write(tmp_path / "variant", manifest=False)
    shards = sorted(file.name for file in saved.glob("*.safetensors"))
    assert len(shards) > 1
    assert shards == sorted(file.name for file in variant.glob("*.safetensors"))
    for name in (INDEX_NAME, *shards):
        assert (saved / name).read_bytes() == (variant / name).read_bytes(), name


@pytest.mark.parametrize("published", [(name, False) for name in (DENSE, DENSE_TIED, MOE36)], indirect=True)
def test_index_of_a_built_model(built: Resave, tmp_path: Path) -> None:
    """Its shards are filled in another order: the index is compared for the shards that there are."""
    built.model.save_pretrained(tmp_path, max_shard_size=LIMIT)
    tensors = {tensor.name: tensor for tensor in built.spec(Variant.PER_EXPERT_DECODER).tensors}
    shards = []
    for file in sorted(tmp_path.glob("*.safetensors")):
        content = header(file)
        assert content.pop("__metadata__") == RESAVED_FILES.metadata_of(Shard(file.name, ()))
        shards.append(Shard(file.name, tuple(tensors[name] for name in content)))
    assert len(shards) > 1
    assert (tmp_path / INDEX_NAME).read_text() == RESAVED_FILES.index_text(shards)


@pytest.mark.parametrize("decoder", ["packed", "per-expert"])
@pytest.mark.parametrize("name", [MOE35, MOE36])
def test_layout_of_the_decoder_is_kept(
    name: str, decoder: str, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    """Whatever layout the MTP experts have, where the names of both begin differently."""
    folder = make_checkpoint(name, decoder_experts=decoder)
    load(folder, VISION).save_pretrained(tmp_path)
    assert kinds(tmp_path).keys() == {key for key in kinds(folder) if not key.startswith("mtp.")}


@pytest.mark.parametrize("text_only", [False, True])
@pytest.mark.parametrize(
    ("mtp", "decoder"), [("packed", "packed"), ("absent", "packed"), ("per-expert", "per-expert")]
)
def test_packed_decoder_is_unpacked_where_mtp_experts_are_not(
    mtp: str, decoder: str, text_only: bool, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    """AutoModelForCausalLM takes MTP experts for the decoder's when it chooses the layout to save in."""
    folder = make_checkpoint(MOE36, mtp_experts=mtp, text_only=text_only)
    load(folder, CAUSAL).save_pretrained(tmp_path)
    experts = {key.rsplit(".experts.", 1)[1] for key in kinds(tmp_path) if ".experts." in key}
    assert ("gate_up_proj" in experts) == (decoder == "packed")
    assert ("0.gate_proj.weight" in experts) == (decoder == "per-expert")


@pytest.mark.parametrize("name", [DENSE, DENSE_TIED, MOE35, MOE36])
def test_language_model_alone_keeps_its_names(
    name: str, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    """AutoModelForCausalLM saves `model.language_model.` under the configuration of a text-only model."""
    import torch

    folder = make_checkpoint(name)
    load(folder, CAUSAL).save_pretrained(tmp_path)
    spec = CheckpointSpec(preset(name), text_only=True, variant=Variant.MTP_DROPPED)
    assert (tmp_path / "config.json").read_text() == spec.plan().texts["config.json"]
    tensors, saved = one_by_one(read(folder)), one_by_one(read(tmp_path))
    assert saved.keys() == {key for key in tensors if not key.startswith(("mtp.", "model.visual."))}
    assert [key for key in saved if key.startswith("model.")] == [
        key for key in saved if key.startswith("model.language_model.")
    ]
    assert not [
        key for key, tensor in saved.items() if not torch.equal(tensor.double(), tensors[key].double())
    ]
