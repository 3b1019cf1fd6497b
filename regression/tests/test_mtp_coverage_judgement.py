"""Every key taken once, every parameter filled once: the judgement, on a model by hand."""

import dataclasses

import pytest

from mtp_regression.coverage.judgement import Parameter, RankParameters, cover
from mtp_regression.ranks.parallel import Coordinates, Parallel

# A model by hand: two experts, packed in the decoder and single in the MTP layer.
SHAPES = {
    "model.embed_tokens.weight": (8, 4),
    "model.layers.0.mlp.experts.down_proj": (2, 4, 3),
    "mtp.fc.weight": (4, 8),
    "mtp.layers.0.mlp.experts.0.down_proj.weight": (4, 3),
    "mtp.layers.0.mlp.experts.1.down_proj.weight": (4, 3),
}
EMBEDDING = Parameter("embedding", 1, ["model.embed_tokens.weight"])
FC = Parameter("mtp.layers.0.eh_proj", 1, ["mtp.fc.weight"])


def packed(expert: int) -> Parameter:
    return Parameter(f"decoder.fc2.weight{expert}", 1, ["model.layers.0.mlp.experts.down_proj"], expert)


def single(expert: int) -> Parameter:
    return Parameter(f"mtp.fc2.weight{expert}", 1, [f"mtp.layers.0.mlp.experts.{expert}.down_proj.weight"])


EP2 = Parallel(ep=2)
PP2 = Parallel(pp=2)


def ep2() -> list[RankParameters]:
    return [
        RankParameters(rank, Coordinates(ep=rank), [EMBEDDING, FC, packed(rank), single(rank)])
        for rank in range(2)
    ]


def pp2() -> list[RankParameters]:
    return [
        RankParameters(0, Coordinates(pp=0), [EMBEDDING, packed(0), packed(1)]),
        RankParameters(1, Coordinates(pp=1), [EMBEDDING, FC, single(0), single(1)]),
    ]


def test_layout_in_which_all_is_taken_is_covered() -> None:
    found = cover(SHAPES, ep2(), EP2)
    assert found.covered, found
    assert (found.pieces, found.parameters, found.filled) == (6, [4, 4], [4, 4])


def test_embedding_has_a_second_copy_where_mtp_is_on_another_stage() -> None:
    assert cover(SHAPES, pp2(), PP2).covered
    held = pp2()
    held[1].parameters.remove(EMBEDDING)
    assert cover(SHAPES, held, PP2).copies == {"model.embed_tokens.weight": (1, 2)}


@pytest.mark.parametrize(("layout", "stage"), [("Et|tttmL", 1), ("Ettttm|L", 0), ("Ettt|tmL", 1)])
def test_embedding_has_a_copy_where_the_layout_puts_mtp(layout: str, stage: int) -> None:
    held = [RankParameters(rank, Coordinates(pp=rank), []) for rank in range(2)]
    held[0].parameters.append(EMBEDDING)
    mtp = [FC, packed(0), packed(1), single(0), single(1)]
    held[stage].parameters.extend([*mtp, EMBEDDING] if stage else mtp)
    assert cover(SHAPES, held, Parallel(pp=2, layout=layout)).copies == {}
    held[0].parameters.remove(EMBEDDING)
    assert "model.embed_tokens.weight" in str(cover(SHAPES, held, Parallel(pp=2, layout=layout)))


def test_parameter_without_a_mapping_is_named_once() -> None:
    held = ep2()
    for rank in held:
        rank.parameters.append(Parameter("mtp.layers.1.eh_proj", 0, None))
    found = cover(SHAPES, held, EP2)
    assert (found.unmapped, found.covered, found.filled) == (["mtp.layers.1.eh_proj"], False, [4, 4])


@pytest.mark.parametrize("filled", [0, 1], ids=["no task", "a task all the same"])
def test_parameter_whose_key_is_not_there_is_starved(filled: int) -> None:
    held = ep2()
    held[1].parameters[3] = Parameter("mtp.fc2.weight1", filled, ["absent.weight"])
    found = cover(SHAPES, held, EP2)
    assert found.starved == {"mtp.fc2.weight1": ["absent.weight"]}
    assert found.unused == ["mtp.layers.0.mlp.experts.1.down_proj.weight"]
    assert not found.covered


def test_slice_beyond_a_packed_tensor_is_not_there() -> None:
    held = ep2()
    held[1].parameters[2] = packed(2)
    found = cover(SHAPES, held, EP2)
    assert found.starved == {"decoder.fc2.weight2": ["model.layers.0.mlp.experts.down_proj"]}
    assert found.unused == ["model.layers.0.mlp.experts.down_proj[1]"]


def test_parameter_that_no_task_fills_although_it_could() -> None:
    held = ep2()
    held[1].parameters[3] = single(1)._replace(filled=0)
    found = cover(SHAPES, held, EP2)
    assert (found.unfilled, found.covered, found.filled) == (["mtp.fc2.weight1"], False, [4, 3])


def test_parameter_that_two_tasks_fill() -> None:
    held = ep2()
    held[0].parameters[1] = FC._replace(filled=2)
    found = cover(SHAPES, held, EP2)
    assert (found.refilled, found.covered) == (["mtp.layers.0.eh_proj"], False)


def test_task_that_fills_no_parameter() -> None:
    held = ep2()
    held[1] = dataclasses.replace(held[1], strays=3)
    found = cover(SHAPES, held, EP2)
    assert (found.strays, found.covered) == ({1: 3}, False)


def test_key_that_two_parameters_take() -> None:
    held = ep2()
    held[0].parameters[3] = single(0)._replace(name="mtp.fc2.weight1")
    found = cover(SHAPES, held, EP2)
    assert not found.shared
    held[0].parameters.append(single(0))
    found = cover(SHAPES, held, EP2)
    assert found.shared == {
        "mtp.layers.0.mlp.experts.0.down_proj.weight": ["mtp.fc2.weight1", "mtp.fc2.weight0"]
    }
    assert not found.covered


def test_experts_numbered_from_zero_on_every_rank_leave_the_others_unused() -> None:
    held = ep2()
    held[1].parameters[2:] = [packed(0), single(0)]
    found = cover(SHAPES, held, EP2)
    assert len(found.unused) == 2
    assert found.copies == {
        "model.layers.0.mlp.experts.down_proj[0]": (2, 1),
        "mtp.layers.0.mlp.experts.0.down_proj.weight": (2, 1),
    }


def test_rank_that_lacks_a_parameter_of_its_like() -> None:
    held = ep2()
    held[1].parameters.remove(FC)
    found = cover(SHAPES, held, EP2)
    assert (found.copies, found.covered) == ({"mtp.fc.weight": (1, 2)}, False)


def test_mtp_layers_share_only_what_is_there_once() -> None:
    second = Parameter("mtp.layers.1.eh_proj", 1, ["mtp.fc.weight"])
    held = ep2()
    for rank in held:
        rank.parameters.append(second)
    assert cover(SHAPES, held, EP2).shared == {"mtp.fc.weight": [FC.name, second.name]}
    assert cover(SHAPES, held, EP2, mtp_layers_share=2).covered
    assert cover(SHAPES, ep2(), EP2, mtp_layers_share=2).shared == {"mtp.fc.weight": [FC.name]}


def test_nothing_is_not_covered() -> None:
    held = [RankParameters(0, Coordinates(), [])]
    assert not cover({}, held, Parallel()).covered
    assert not cover(SHAPES, held, Parallel()).covered


def test_ranks_of_another_layout_are_refused() -> None:
    with pytest.raises(ValueError, match="2 ranks expected"):
        cover(SHAPES, ep2()[:1], EP2)
