"""The oracle beside Megatron-Bridge: exact where the bridge is right, and red for what a round trip hides."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.comparison.tensors import read_folder
from mtp_regression.oracle.parameters import native_parameters
from mtp_regression.ranks.parallel import Coordinates, Parallel

from .conftest import EXPORTS

pytestmark = pytest.mark.megatron

Job = Callable[..., tuple[int, dict[str, Any]]]
Q35, Q36 = "qwen3.5-35b-a3b", "qwen3.6-35b-a3b"
VARIANTS = "mtp_regression.adapters.variants"


def native_record(main_job: Job, checkpoint: Path, parallel: str, adapter: str = "") -> dict[str, Any]:
    options = ["--adapter", adapter] if adapter else []
    _, report = main_job(checkpoint, "--parallel", parallel, "--stage", "native", *options)
    record: dict[str, Any] = next(record for record in report["records"] if record["stage"] == "native")
    return record


@pytest.mark.parametrize(
    ("preset", "options", "parallel", "adapter", "compared"),
    [
        # 143 in the language model and 33 in the vision tower; 80 of the 143 are the experts'.
        (Q36, {}, "tp1", "", 143 + 33),
        (Q36, {}, "tp2 ep2", "", 2 * (143 + 33 - 40)),
        (Q36, {"text_only": True}, "tp2 pp2", "", 2 * (143 + 1)),  # MTP's embedding is one more
        (Q36, {"mtp_layers": 0}, "tp1", f"{VARIANTS}:SequentialExperts", None),
        (Q36, {"mtp_layers": 0}, "ep2 etp2", f"{VARIANTS}:SequentialExperts", None),
        (Q36, {"text_only": True}, "tp2", f"{VARIANTS}:PaddedVocabulary", None),
        ("qwen3.5-0.8b", {}, "tp1", "", None),
        ("qwen3.5-0.8b", {}, "tp2 pp2", "", None),
        ("qwen3.6-27b", {"text_only": True}, "tp2", "", None),
    ],
)
def test_every_parameter_is_right(
    preset: str,
    options: dict[str, Any],
    parallel: str,
    adapter: str,
    compared: int | None,
    make_checkpoint: MakeCheckpoint,
    main_job: Job,
) -> None:
    record = native_record(main_job, make_checkpoint(preset, **options), parallel, adapter)
    assert (record["verdict"], record["tensors"]) == ("exact", [])
    assert compared in (None, record["compared"])


LAYER = r"(decoder|mtp)\.layers\.\d+\."
ROW_PARALLEL = r".*\.(linear_proj|out_proj)\.weight|.*\.linear_fc2\.weight\d*"
COLUMN_PARALLEL = (
    r"embedding.*|output_layer.*|.*\.(linear_qkv|in_proj|eh_proj)\.(weight|bias)|.*\.(A_log|dt_bias)"
    r"|vision_model.*\.linear_fc1\.(weight|bias)"
)
WHOLE = r".*norm.*|.*router\.weight|.*gate_weight|.*patch_embed.*|.*pos_embed.*"
GATED = rf"{LAYER}mlp\.shared_experts\.linear_fc1\.weight|mtp.*\.experts\.linear_fc1\.weight\d"


@pytest.mark.parametrize(
    ("saboteur", "checkpoint", "parallel", "names"),
    [
        ("KeysAsValues", Q36, "tp1", LAYER + r"self_attention\.linear_qkv\.weight"),
        ("GateBeforeQuery", Q36, "tp2", LAYER + r"self_attention\.linear_qkv\.weight"),
        ("AlphaBeforeBeta", Q36, "tp1", r"decoder.*\.self_attention\.in_proj\.weight"),
        ("QueriesAsKeysOfGdn", Q36, "tp2", r"decoder.*\.self_attention\.in_proj\.weight"),
        ("ReversedConvolution", Q36, "tp1", r".*\.conv1d\.weight"),
        ("NormNotCentred", Q36, "tp1", r".*\.out_norm\.weight"),
        ("GateAsUp", Q35, "tp1", GATED),
        ("PackedGateAsUp", Q36, "ep2", r".*\.mlp\.experts\.linear_fc1\.weight\d"),
        ("ReversedPackedDown", Q36, "tp1", r".*\.mlp\.experts\.linear_fc2\.weight\d"),
        ("SwapsTwoExpertsTwice", Q35, "tp1", r"mtp.*\.experts\.linear_fc1\.weight[12]"),
        ("SwapsMtpNormsTwice", Q36, "tp1", r"mtp.*\.[eh]norm\.weight"),
        ("HiddenBeforeEmbedding", Q36, "tp1", r"mtp.*\.eh_proj\.weight"),
        ("ReversedEmbedding", Q36, "tp1", r"embedding\..*"),
        ("KeysAsValuesOfVision", Q36, "tp1", r"vision_model.*\.linear_qkv\.(weight|bias)"),
        ("OtherRanksColumns", Q35, "tp2", ROW_PARALLEL),
        ("OtherRanksRows", Q36, "tp2", COLUMN_PARALLEL),
        ("ReversedPlain", Q36, "tp1", WHOLE),
    ],
)
def test_mistake_made_twice_is_named(
    saboteur: str,
    checkpoint: str,
    parallel: str,
    names: str,
    checkpoints: dict[str, Path],
    main_job: Job,
) -> None:
    """Both exports are exact, and the oracle names all parameters that the mistake concerns, and no other."""
    folder = checkpoints[checkpoint]
    options = ("--parallel", parallel, "--adapter", f"oracle_saboteurs:{saboteur}")
    _, report = main_job(folder, *options, *EXPORTS)
    native, stream, saved = report["records"]
    assert (stream["verdict"], saved["verdict"]) == ("exact", "exact")
    assert native["verdict"] == "wrong"
    named = {found["tensor"] for found in native["tensors"]}
    assert named == {name for name in held_names(folder, parallel) if re.fullmatch(names, name)}
    places = {(found["rank"], found["chunk"]) for found in native["tensors"]}
    assert places <= {(rank, 0) for rank in range(Parallel.parse(parallel).ranks)}
    assert named


def test_key_head_in_the_wrong_place_is_named_where_it_is(
    make_checkpoint: MakeCheckpoint, main_job: Job
) -> None:
    """Two key heads on TP 4: of the two ranks that share a group's rows, the second has the key."""
    folder = make_checkpoint(Q36, scale="wide")
    options = ("--parallel", "tp4", "--adapter", "oracle_saboteurs:OtherKeyHead")
    _, report = main_job(folder, *options, *EXPORTS)
    assert [record["verdict"] for record in report["records"]] == ["wrong", "exact", "exact"]
    found = {(finding["tensor"], finding["rank"]) for finding in report["records"][0]["tensors"]}
    layers = ("decoder.layers.3", "mtp.layers.0")
    assert found == {
        (f"{layer}.self_attention.linear_qkv.weight", rank) for layer in layers for rank in (1, 3)
    }


def test_fp8_loaded_without_its_scales_is_named(make_checkpoint: MakeCheckpoint, main_job: Job) -> None:
    """The bridge copies the E4M3 numbers and never reads a scale, without a warning."""
    folder = make_checkpoint(Q36, mtp_experts="fp8-per-expert")
    record = native_record(main_job, folder, "tp1")
    assert record["verdict"] == "wrong"
    experts = {name for name in held_names(folder, "tp1") if re.match(r"mtp.*\.mlp\.experts\.", name)}
    assert {found["tensor"] for found in record["tensors"]} == experts
    assert len(experts) == 8 * 2


def held_names(folder: Path, parallel: str) -> set[str]:
    config = json.loads((folder / "config.json").read_text())
    layout = Parallel.parse(parallel)
    held = native_parameters(read_folder(folder), config, layout, Coordinates())
    return {name.removeprefix("0/") for name in held}
