"""A saved folder is compared with the checkpoint in all that is beside the weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtp_regression.comparison.side_files import compare_side_files

Job = Callable[..., tuple[int, dict[str, Any]]]

Q36 = "qwen3.6-35b-a3b"
INDEX = "model.safetensors.index.json"
_AXIAL = {"rope_theta": 10000.0, "rope_type": "axial"}
_ANOTHER_ROPE = 'unexpected: is {"rope_theta": 1000000.0, "rope_type": "axial"}'


@pytest.mark.megatron
@pytest.mark.parametrize(
    ("saboteur", "tensor", "verdict", "detail"),
    [
        ("DeclaresNoMtp", "config.json: text_config.mtp_num_hidden_layers", "wrong", "0 instead of 1"),
        ("SavesAnotherTopK", "config.json: text_config.num_experts_per_tok", "wrong", "3 instead of 2"),
        ("SavesAnotherEpsilon", "config.json: text_config.rms_norm_eps", "wrong", "1e-05 instead of 1e-06"),
        ("LosesTheTokenizer", "tokenizer.json", "missing", "the file is lost"),
        ("LosesTheChatTemplate", "chat_template.jinja", "wrong", "another content"),
        ("WritesAnotherSize", INDEX, "wrong", "bytes, the tensors have "),
        (
            "LeavesAnOldShard",
            INDEX,
            "wrong",
            "does not name 1 file (model-of-yesterday.safetensors)",
        ),
        ("SavesTheTime", "config.json", "wrong", "a second save has written something else"),
    ],
)
def test_what_is_beside_the_weights_is_named(
    saboteur: str,
    tensor: str,
    verdict: str,
    detail: str,
    checkpoints: dict[str, Path],
    main_job: Job,
) -> None:
    stages = ("--stage", "stream", "--stage", "saved", "--stage", "files")
    options = ("--parallel", "tp1", "--adapter", f"file_saboteurs:{saboteur}", *stages)
    exit_code, report = main_job(checkpoints[Q36], *options)
    assert exit_code == 1
    assert [record["stage"] for record in report["records"] if not record["passed"]] == ["files"]
    named = {found["tensor"]: found for found in report["records"][-1]["tensors"]}
    assert named[tensor]["verdict"] == verdict
    assert detail in named[tensor]["detail"]
    undeclared = len(named) - report["records"][-1]["declared"]
    assert undeclared == (2 if saboteur == "DeclaresNoMtp" else 1), "inspect sees that there is MTP"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"transformers_version": "5"}, []),
        ({"dtype": "bfloat16"}, []),
        ({"text_config": {"rms_norm_eps": 1, "output_router_logits": False}}, []),
        ({"text_config": {"rms_norm_eps": 1, "output_router_logits": True}}, ["unexpected: is true"]),
        ({"text_config": {"rms_norm_eps": 1.0}}, ["wrong: 1.0 instead of 1"]),
        ({"text_config": {}}, ["missing: was 1"]),
        ({"text_config": {"rms_norm_eps": 1, "mtp_num_hidden_layers": 1}}, ["unexpected: is 1"]),
        ({"output_router_logits": False}, ["unexpected: is false"]),
        ({"vision_config": {"depth": 2, "rope_parameters": _AXIAL}}, []),
        ({"vision_config": {"depth": 2, "rope_parameters": _AXIAL | {"rope_theta": 1e6}}}, [_ANOTHER_ROPE]),
        ({"vision_config": {"depth": 2, "rope_theta": 1e4}}, ["unexpected: is 10000.0"]),
    ],
)
def test_fields_are_compared_as_they_are_parsed(
    change: dict[str, Any], found: list[str], tmp_path: Path
) -> None:
    config = {"text_config": {"rms_norm_eps": 1}, "vision_config": {"depth": 2}, "transformers_version": "4"}
    source, saved = tmp_path / "source", tmp_path / "saved"
    for folder, content in ((source, config), (saved, config | change)):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(content, indent=len(content)))
    findings = compare_side_files(source, saved, config)
    assert [f"{finding.verdict}: {finding.detail}" for finding in findings] == found


@pytest.mark.parametrize(("added", "told"), [(False, []), (True, ["config.json: output_router_logits"])])
def test_a_text_only_configuration_has_no_section(added: bool, told: list[str], tmp_path: Path) -> None:
    config = {"rms_norm_eps": 1}
    saved = config | {"output_router_logits": added, "partial_rotary_factor": 0.25, "bos_token_id": None}
    (tmp_path / "config.json").write_text(json.dumps(saved))
    findings = compare_side_files(tmp_path, tmp_path, config)
    assert [finding.tensor for finding in findings] == told


def test_a_field_that_occurs_twice_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"dtype": "bfloat16", "dtype": "bfloat16"}')
    [finding] = compare_side_files(tmp_path, tmp_path, {})
    assert "dtype" in finding.detail
