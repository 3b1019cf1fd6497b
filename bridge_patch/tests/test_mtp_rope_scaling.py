"""A model has the rotary frequencies, and the attention factor, that its checkpoint asks for."""

import importlib
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import mtp_bridge_patch

MODELS = "megatron.bridge.models."
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
PLAIN = tuple(10_000_000.0 ** (-number / 8) for number in range(8))

# By what `transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS` of transformers 5.12.1 multiplies the eight
# frequencies of base 1e7, and its attention factor.
ROUNDED = (1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.25, 0.25)
CASES = [
    ({}, ROUNDED, 1.1386294),
    (
        {"attention_factor": 1.3, "beta_fast": 16, "truncate": False},
        (1.0, 1.0, 1.0, 0.9303332, 0.3853293, 0.25, 0.25, 0.25),
        1.3,
    ),
    ({"mscale": 0.7, "mscale_all_dim": 0.3}, ROUNDED, 1.0532377),
    ({"mscale": 0.7}, ROUNDED, 1.1386294),
    ({"type": "yarn"}, ROUNDED, 1.1386294),
]
KINDS = [
    ("gpt_provider", "GPTModelProvider"),
    ("qwen_vl.qwen35_vl_provider", "Qwen35VLModelProvider"),
    ("qwen_vl.qwen35_vl_provider", "Qwen35VLMoEModelProvider"),
]


class Bridged:
    """What a release does with a checkpoint's rotary parameters."""

    def __init__(self, bridge: ModuleType, module: str, provider: str) -> None:
        self._bridge = bridge
        self._module, self._name = importlib.import_module(MODELS + module), provider

    def provider(self, rope: Any, *, where: str = "rope_parameters") -> Any:
        provider = getattr(self._module, self._name)()
        config = provider
        config.text_config = SimpleNamespace(**{where: rope})
        config.linear_attention_freq = 4
        return self._bridge.Qwen35VLBridge().provider_bridge(SimpleNamespace(config=config))

    def rotary(self, provider: Any) -> Any:
        model = provider.provide()
        return getattr(model, "language_model", model).rotary_pos_emb


@pytest.fixture(params=KINDS, ids=[name for _, name in KINDS])
def bridged(release: str, import_bridge: Callable[[], ModuleType], request: pytest.FixtureRequest) -> Bridged:
    del release
    return Bridged(import_bridge(), *request.param)


@pytest.mark.parametrize(("options", "multiplied", "factor"), CASES)
def test_yarn_is_as_transformers_computes_it(
    bridged: Bridged, options: dict[str, Any], multiplied: tuple[float, ...], factor: float
) -> None:
    rope = YARN | options
    if "type" in options:
        del rope["rope_type"]
    mtp_bridge_patch.apply(only=["rope-scaling"])
    provider = bridged.provider(rope)
    expected = [one * two for one, two in zip(PLAIN, multiplied, strict=True)]
    assert bridged.rotary(provider).inv_freq == pytest.approx(expected, rel=1e-6)
    attention = importlib.import_module(MODELS + "qwen_vl.modelling_qwen3_vl.attention")
    assert attention.attend("query", "angles", provider) == ("query", "angles", pytest.approx(factor))
    mtp_bridge_patch.revert()
    assert bridged.rotary(provider).inv_freq == PLAIN
    assert attention.attend("query", "angles", provider) == ("query", "angles", 1.0)


def test_fields_alone_make_the_model(bridged: Bridged) -> None:
    """A Megatron checkpoint keeps the provider's fields, and no config.json."""
    mtp_bridge_patch.apply(only=["rope-scaling"])
    before = bridged.provider(YARN)
    after = type(before)()
    for name, value in vars(before).items():
        if name.startswith("yarn_"):
            setattr(after, name, value)
    assert bridged.rotary(after).inv_freq == bridged.rotary(before).inv_freq != PLAIN


@pytest.mark.parametrize("where", ["rope_parameters", "rope_scaling"])
def test_linear_scaling_is_the_interpolation_of_both_kinds_of_models(bridged: Bridged, where: str) -> None:
    mtp_bridge_patch.apply(only=["rope-scaling"])
    rotary = bridged.rotary(bridged.provider({"rope_type": "linear", "factor": 8}, where=where))
    assert (rotary.seq_len_interpolation_factor, rotary.inv_freq) == (8.0, PLAIN)


@pytest.mark.parametrize("rope", [None, {}, {"rope_type": "default"}, {"type": "mrope"}, {"rope_theta": 1}])
def test_model_that_asks_for_no_scaling_is_upstreams(bridged: Bridged, rope: Any) -> None:
    mtp_bridge_patch.apply(only=["rope-scaling"])
    rotary = bridged.rotary(bridged.provider(rope))
    assert (rotary.seq_len_interpolation_factor, rotary.inv_freq) == (None, PLAIN)


@pytest.mark.parametrize("kind", ["llama3", "longrope", "dynamic", "proportional"])
def test_scaling_that_megatron_has_no_field_for_is_refused(bridged: Bridged, kind: str) -> None:
    mtp_bridge_patch.apply(only=["rope-scaling"])
    with pytest.raises(mtp_bridge_patch.UnsupportedConfigError, match=f"rope_type '{kind}'"):
        bridged.provider({"rope_type": kind, "factor": 8.0})


@pytest.mark.parametrize("kind", ["linear", "yarn"])
@pytest.mark.parametrize("factor", [None, 1, 0.5, "4"])
def test_factor_that_scales_nothing_is_refused(bridged: Bridged, kind: str, factor: Any) -> None:
    mtp_bridge_patch.apply(only=["rope-scaling"])
    with pytest.raises(mtp_bridge_patch.UnsupportedConfigError, match=f"'{kind}' with factor {factor!r}"):
        bridged.provider(YARN | {"rope_type": kind, "factor": factor})


@pytest.mark.parametrize(
    ("field", "value"), [("position_embedding_type", "yarn"), ("experimental_attention_variant", None)]
)
def test_model_that_scales_in_its_own_way_is_left_alone(bridged: Bridged, field: str, value: Any) -> None:
    mtp_bridge_patch.apply(only=["rope-scaling"])
    provider = bridged.provider(YARN)
    setattr(provider, field, value)
    attention = importlib.import_module(MODELS + "qwen_vl.modelling_qwen3_vl.attention")
    assert bridged.rotary(provider).inv_freq == PLAIN
    assert attention.attend("query", "angles", provider) == ("query", "angles", 1.0)


def test_interpolation_of_another_family_is_left_to_its_model(bridged: Bridged) -> None:
    mtp_bridge_patch.apply(only=["rope-scaling"])
    provider = bridged.provider({"rope_type": "linear", "factor": 8})
    provider.experimental_attention_variant = None
    assert bridged.rotary(provider).seq_len_interpolation_factor is None


def test_without_the_fix_nothing_is_scaled(bridged: Bridged) -> None:
    mtp_bridge_patch.apply(skip=["rope-scaling"])
    for rope in (YARN, {"rope_type": "linear", "factor": 8}, {"rope_type": "llama3", "factor": 8}):
        rotary = bridged.rotary(bridged.provider(rope))
        assert (rotary.seq_len_interpolation_factor, rotary.inv_freq) == (None, PLAIN)
