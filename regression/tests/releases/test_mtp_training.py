"""What training starts from: MTP's loss and its gradient, with every expert loaded and without."""

from typing import Any

import pytest

from mtp_regression.maintenance.demo.run import NEAR, problems, results

pytestmark = pytest.mark.megatron


@pytest.fixture(scope="module")
def found(megatron_server: None) -> dict[str, Any]:
    """What `nox -s demo` measures, of a checkpoint that is fitted less."""
    del megatron_server
    return results(fitting=12, training=5)


def near(value: float) -> Any:
    return pytest.approx(value, rel=NEAR)


def test_patched_model_has_the_reference_losses_and_gradients(found: dict[str, Any]) -> None:
    reference, patched = found["reference"], found["patched"]
    assert patched["not loaded"] == 0
    assert patched["losses"] == {head: near(loss) for head, loss in reference["losses"].items()}
    assert patched["training"][0][1] == patched["losses"]
    gradients = patched["gradients"]["embedding"]
    assert gradients["main"] == near(reference["embedding"]["main"])
    expected = patched["factor"] * reference["embedding"]["mtp.0"]
    assert gradients["mtp"] == pytest.approx(expected, rel=10 * NEAR)  # a difference of two passes in float32
    assert all(part["cosine"] == near(1) for part in patched["gradients"].values())


def test_experts_that_are_not_loaded_change_the_mtp_loss_and_its_gradient_alone(
    found: dict[str, Any], release: str
) -> None:
    known_bad = release.startswith("0.4.")
    right, other = found["patched"], found["unpatched"]
    assert other["not loaded"] == (16 if known_bad else 0)
    assert other["losses"]["main"] == right["losses"]["main"]
    apart = other["losses"]["mtp.0"] - right["losses"]["mtp.0"]
    assert apart > 20 * NEAR if known_bad else apart == 0
    for part, gradients in other["gradients"].items():
        assert gradients["main"] == right["gradients"][part]["main"]
        assert (gradients["mtp"] != right["gradients"][part]["mtp"]) == known_bad


def test_what_the_page_would_tell_wrongly_is_a_problem(found: dict[str, Any]) -> None:
    wrong = dict(found, reference={"losses": {"main": found["reference"]["losses"]["main"] * 1.001}})
    assert any(problem.startswith("patched: the loss of main") for problem in problems(wrong))
