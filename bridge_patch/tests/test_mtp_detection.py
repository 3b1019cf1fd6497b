"""The layout of MTP experts from keys alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtp_bridge_patch import ExpertLayout, LayoutError, mtp_expert_layout
from mtp_bridge_patch.detection import MTP_KEY_TABLES, MTP_PACKED, MTP_PER_EXPERT

from .hypothesis_settings import unhurried

# Keys of the published checkpoints that are no routed MTP expert, or that look like one.
OTHERS = (
    "lm_head.weight",
    "model.language_model.layers.0.mlp.experts.gate_up_proj",
    "model.language_model.layers.0.mlp.experts.down_proj",
    "model.language_model.layers.3.mlp.experts.7.down_proj.weight",
    "mtp.fc.weight",
    "mtp.layers.0.mlp.gate.weight",
    "mtp.layers.0.mlp.gate_proj.weight",
    "mtp.layers.0.mlp.shared_expert.gate_proj.weight",
    "mtp.layers.0.mlp.shared_expert.down_proj.weight",
    "mtp.layers.0.mlp.shared_expert_gate.weight",
    "xmtp.layers.0.mlp.experts.gate_up_proj",
    "mtp.layers.0.mlp.experts.gate_up_proj_extra",
    "mtp.layers.x.mlp.experts.0.gate_proj.weight",
    "language_model.mtp.layers.0.mtp_model_layer.mlp.experts.linear_fc1.weight0",
)

numbers = st.integers(0, 600)
prefixes = st.sampled_from(["", "", "model.", "model.language_model.", "module.module."])
packed_keys = st.builds(
    "{}mtp.layers.{}.mlp.experts.{}".format, prefixes, numbers, st.sampled_from(["gate_up_proj", "down_proj"])
)
per_expert_keys = st.builds(
    "{}mtp.layers.{}.mlp.experts.{}.{}_proj.weight".format,
    prefixes,
    numbers,
    numbers,
    st.sampled_from(["gate", "up", "down"]),
)
other_keys = st.one_of(
    st.sampled_from(OTHERS),
    st.text().filter(lambda key: "mtp" not in key),
    st.builds("{}{}".format, prefixes, st.sampled_from(OTHERS[4:10])),
)


def some(keys: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(keys, min_size=1, max_size=12)


@st.composite
def mixtures(draw: st.DrawFn, *parts: st.SearchStrategy[list[str]]) -> list[str]:
    """Keys of all parts and others, in any order."""
    keys = [key for part in (*parts, st.lists(other_keys, max_size=12)) for key in draw(part)]
    return draw(st.permutations(keys))


def test_published_layouts() -> None:
    qwen36 = ["mtp.layers.0.mlp.experts.gate_up_proj", "mtp.layers.0.mlp.experts.down_proj"]
    qwen35 = [
        f"mtp.layers.0.mlp.experts.{expert}.{projection}_proj.weight"
        for expert in range(256)
        for projection in ("gate", "up", "down")
    ]
    assert mtp_expert_layout([*OTHERS, *qwen36]) is ExpertLayout.PACKED
    assert mtp_expert_layout([*OTHERS, *qwen35]) is ExpertLayout.PER_EXPERT
    assert mtp_expert_layout(OTHERS) is ExpertLayout.ABSENT
    assert mtp_expert_layout([]) is ExpertLayout.ABSENT


@pytest.mark.parametrize("other", OTHERS)
def test_no_other_key_counts(other: str) -> None:
    assert mtp_expert_layout([other]) is ExpertLayout.ABSENT


def test_names_of_the_layouts() -> None:
    assert [str(layout) for layout in ExpertLayout] == ["packed", "per-expert", "fp8-per-expert", "absent"]


def test_key_tables_are_complete_and_frozen() -> None:
    assert {table.layout for table in MTP_KEY_TABLES} == {ExpertLayout.PACKED, ExpertLayout.PER_EXPERT}
    for table in MTP_KEY_TABLES:
        with pytest.raises(TypeError):
            table.projections["gate"] = ""  # type: ignore[index]
        with pytest.raises(AttributeError):
            table.layout = ExpertLayout.ABSENT  # type: ignore[misc]


@unhurried
@given(mixtures(some(packed_keys)))
def test_packed_in_any_order(keys: list[str]) -> None:
    assert mtp_expert_layout(keys) is ExpertLayout.PACKED


@unhurried
@given(mixtures(some(per_expert_keys)))
def test_per_expert_in_any_order(keys: list[str]) -> None:
    assert mtp_expert_layout(iter(keys)) is ExpertLayout.PER_EXPERT


@unhurried
@given(mixtures())
def test_absent(keys: list[str]) -> None:
    assert mtp_expert_layout(keys) is ExpertLayout.ABSENT


@unhurried
@given(mixtures(some(packed_keys), some(per_expert_keys)))
def test_both_layouts_are_an_error(keys: list[str]) -> None:
    with pytest.raises(LayoutError) as caught:
        mtp_expert_layout(keys)
    lines = str(caught.value).splitlines()
    for line, table in zip(lines[1:3], (MTP_PACKED, MTP_PER_EXPERT), strict=True):
        own = [key for key in keys if table.regex.fullmatch(key)]
        assert line.startswith(f"  MTP experts, {table.layout}: {len(own)} key")
        assert all(key in line for key in own[:3])


def test_error_counts_shows_and_advises() -> None:
    keys = [f"mtp.layers.1.mlp.experts.{expert}.up_proj.weight" for expert in range(8)]
    with pytest.raises(LayoutError) as caught:
        mtp_expert_layout([*keys, "mtp.layers.0.mlp.experts.down_proj"], checkpoint="/models/tiny")
    assert str(caught.value) == (
        "/models/tiny is inconsistent:\n"
        "  MTP experts, packed: 1 key (mtp.layers.0.mlp.experts.down_proj)\n"
        "  MTP experts, per-expert: 8 keys (mtp.layers.1.mlp.experts.0.up_proj.weight, "
        "mtp.layers.1.mlp.experts.1.up_proj.weight, mtp.layers.1.mlp.experts.2.up_proj.weight and 5 more)\n"
        "Write the checkpoint anew, or correct its keys (those of the index too) or its config."
    )


def test_each_key_is_read_once() -> None:
    read: list[str] = []

    def keys() -> object:
        for key in OTHERS:
            read.append(key)
            yield key

    mtp_expert_layout(keys())  # type: ignore[arg-type]
    assert read == list(OTHERS)
