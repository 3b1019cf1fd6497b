"""On a real release: what the patch replaces, and that models of other families meet upstream's functions."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import family_jobs
import pytest

from mtp_bridge_patch.fix import Need
from mtp_bridge_patch.patch import FIXES
from mtp_regression.plugin import OnRanks

pytestmark = pytest.mark.megatron

OF_EVERY_RELEASE = (
    "_megatron_global_param_names_all_pp_ranks",
    "build_conversion_tasks",
    "load_weights_hf_to_megatron",
    "mapping_registry",
    "maybe_modify_loaded_hf_weight",
    "provider_bridge",
    "stream_weights_hf_to_megatron",
    "stream_weights_megatron_to_hf",
)
OF_FIX = {"tied-embeddings-vpp": "_broadcast_shared_embeddings"}
LOOKS_AT = {"FamilyMethod.__get__", "is_of_family", "_known_config", "_of_auto_bridge", "_itself"}
"""What tells from a config that a model is of another family."""
LOOKS_AT_PROVIDER = {"install", "_is_hybrid", "_scaled", "_is_of_family"}
"""What tells from a provider, in its `provide` and in `mtp_block_spec`, that a model has no GDN layers."""
LOOKS_AT_ARGUMENTS = {"install", "hub_options"}
"""What tells, in `state`, from the arguments of `from_pretrained` that no revision is asked for."""
TINY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 512,
    "max_position_embeddings": 128,
    "dtype": "bfloat16",
}


def test_mtp_methods_are_wrapped_once_with_upstreams_signatures(on_ranks: OnRanks, release: str) -> None:
    (found,) = on_ranks(family_jobs.replaced)
    names = [*OF_EVERY_RELEASE]
    names += [OF_FIX[fix.id] for fix in FIXES if fix.id in OF_FIX and fix.need(release) is Need.APPLIES]
    bridges = ["Qwen35VLBridge", "Qwen35VLMoEBridge"]
    bridges += [] if release.startswith("0.4.") else ["Qwen35Bridge", "Qwen35MoEBridge"]
    assert found == {
        "wrapped": sorted(f"{bridge}.{name}" for bridge in bridges for name in names),
        "wrong": [],
    }


@pytest.fixture
def other(checkpoints: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that makes a tiny checkpoint of another family."""

    def make(family: str) -> Path:
        import transformers

        configs: dict[str, Any] = {
            "LlamaForCausalLM": lambda: transformers.LlamaConfig(**TINY),
            "Qwen3MoeForCausalLM": lambda: transformers.Qwen3MoeConfig(
                **TINY, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32
            ),
        }
        folder = tmp_path / family
        getattr(transformers, family)(configs[family]()).save_pretrained(folder)
        assert json.loads((folder / "config.json").read_text())["architectures"] == [family]
        for path in checkpoints["qwen3.6-35b-a3b"].glob("tokenizer*"):  # upstream saves one with the weights
            shutil.copy(path, folder)
        return folder

    return make


@pytest.mark.parametrize("family", ["LlamaForCausalLM", "Qwen3MoeForCausalLM"])
def test_other_families_meet_upstreams_functions(
    on_ranks: OnRanks, other: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    (ran,) = on_ranks(family_jobs.patch_functions, str(other(family)), str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "model.safetensors").exists()
    assert set(ran["load"]) <= LOOKS_AT_PROVIDER | LOOKS_AT_ARGUMENTS
    assert set(ran["export"]) <= LOOKS_AT_ARGUMENTS
    assert set(ran["save"]) <= LOOKS_AT | LOOKS_AT_ARGUMENTS


def test_mtp_family_meets_the_patch(on_ranks: OnRanks, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folders = (str(checkpoints["qwen3.6-35b-a3b"]), str(tmp_path / "saved"))
    (ran,) = on_ranks(family_jobs.patch_functions, *folders)
    for step in ("load", "export", "save"):
        assert len(set(ran[step]) - LOOKS_AT) > 3, step
