"""The stand-in for TransformerEngine: parameters as Megatron-Core asks for them, no computation."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mtp_regression.megatron import te_linear, te_norms, te_standin


def shapes(module: torch.nn.Module) -> dict[str, list[int]]:
    return {name: list(parameter.shape) for name, parameter in module.named_parameters()}


def axes(module: torch.nn.Module) -> dict[str, int | None]:
    return {name: getattr(p, "partition_dim", None) for name, p in module.named_parameters()}


def test_linear_is_cut_by_tensor_parallel_size() -> None:
    column = te_linear.Linear(6, 8, tp_size=2, parallel_mode="column")
    row = te_linear.Linear(6, 8, tp_size=2, parallel_mode="row", bias=False)
    whole = te_linear.Linear(6, 8, params_dtype=torch.bfloat16)
    assert (shapes(column), axes(column)) == ({"weight": [4, 6], "bias": [4]}, {"weight": 0, "bias": 0})
    assert (shapes(row), axes(row)) == ({"weight": [8, 3]}, {"weight": 1})
    assert row.bias is None
    assert (shapes(whole), axes(whole)) == ({"weight": [8, 6], "bias": [8]}, {"weight": 0, "bias": None})
    assert whole.weight.dtype == torch.bfloat16


def test_layer_norm_linear_has_its_norm() -> None:
    norm = te_linear.LayerNormLinear(
        6, 8, normalization="RMSNorm", bias=False, tp_size=2, parallel_mode="column"
    )
    assert shapes(norm) == {"weight": [4, 6], "layer_norm_weight": [6]}
    assert shapes(te_linear.LayerNormLinear(6, 8))["layer_norm_bias"] == [6]


def test_grouped_linear_has_a_weight_an_expert() -> None:
    grouped = te_linear.GroupedLinear(3, 6, 8, bias=False, tp_size=2, parallel_mode="row")
    assert shapes(grouped) == {f"weight{expert}": [8, 3] for expert in range(3)}
    assert set(axes(grouped).values()) == {1}


def test_sequence_parallel_is_marked_where_transformer_engine_marks_it() -> None:
    """Norms always, row-parallel biases too; weights never, and without tensor parallelism it is off."""
    options: dict[str, Any] = {"sequence_parallel": True, "tp_size": 2}

    def marks(module: torch.nn.Module) -> dict[str, bool]:
        return {
            name: parameter.sequence_parallel
            for name, parameter in module.named_parameters()
            if hasattr(parameter, "sequence_parallel")
        }

    assert marks(te_linear.Linear(6, 8, parallel_mode="row", **options)) == {"bias": True}
    assert marks(te_linear.Linear(6, 8, parallel_mode="column", **options)) == {}
    norms = {"layer_norm_weight": True, "layer_norm_bias": True}
    assert marks(te_linear.LayerNormLinear(6, 8, parallel_mode="column", **options)) == norms
    one_rank = te_linear.LayerNormLinear(6, 8, sequence_parallel=True)
    assert marks(one_rank) == {"layer_norm_weight": False, "layer_norm_bias": False}
    assert marks(te_norms.LayerNorm(6, sequence_parallel=False)) == {"weight": False, "bias": False}
    assert marks(te_norms.RMSNorm(6)) == {}


def test_extra_state_is_empty_and_taken_back() -> None:
    """As TransformerEngine's of a module without FP8: a key of the state, with no bytes."""
    grouped = te_linear.GroupedLinear(2, 6, 8, bias=False)
    state = grouped.state_dict()
    assert state["_extra_state"].dtype == torch.uint8
    assert state["_extra_state"].numel() == 0
    assert not any((grouped.fp8, grouped.fp8_calibration, grouped.fp8_meta["fp8_checkpoint"]))
    grouped.load_state_dict(state)


def test_meta_device_is_kept() -> None:
    assert te_linear.Linear(6, 8, device="meta").weight.device.type == "meta"
    assert te_norms.RMSNorm(6, device="meta").weight.device.type == "meta"


def test_norms() -> None:
    assert shapes(te_norms.RMSNorm(6)) == {"weight": [6]}
    assert shapes(te_norms.LayerNorm(hidden_size=6)) == {"weight": [6], "bias": [6]}
    with pytest.raises(TypeError, match="normalized_shape"):
        te_norms.RMSNorm()


GPU_CODE = """
import sys, torch
from mtp_regression.megatron import te_standin
torch.cuda.is_available = lambda: True
sys.path.insert(0, sys.argv[1])
print(te_standin.install(), te_standin.describe(), "transformer_engine.broken" in sys.modules)
"""


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        ("", "False 9.9 False"),
        ("import transformer_engine.broken\nraise ImportError('no kernels')", "True stand-in False"),
    ],
)
def test_real_package_is_used_where_there_is_a_gpu(real: str, expected: str, tmp_path: Path) -> None:
    """With a GPU the real package comes first; one that cannot be imported leaves nothing behind."""
    package = tmp_path / "transformer_engine"
    (package / "pytorch").mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '9.9'\n")
    (package / "broken.py").touch()
    (package / "pytorch" / "__init__.py").write_text(real + "\n")
    command = [sys.executable, "-W", "error", "-c", GPU_CODE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == expected, done.stderr


CODE = """
from mtp_regression.megatron import te_modules, te_standin
assert te_standin.describe() == "none"
assert te_standin.install() and te_standin.install()
assert te_standin.describe() == "stand-in"
import transformer_engine as te
import transformer_engine.pytorch.some.submodule
from transformer_engine.pytorch.fp8 import fp8_autocast
from transformer_engine.pytorch import Linear, Anything
from transformer_engine.common import recipe
assert Linear is te_modules.Linear
assert issubclass(Anything, __import__("torch").nn.Module) and recipe.DelayedScaling()
for compute in (fp8_autocast, Anything()):
    try:
        compute()
    except RuntimeError as error:
        assert "does not compute this" in str(error) or "computes nothing" in str(error), error
    else:
        raise AssertionError(compute)
print("done", te.__version__)
"""


def test_installed_package_answers_every_name_and_computes_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE], capture_output=True, text=True, check=False
    )
    assert done.stdout == f"done {te_standin.VERSION}\n", done.stderr
