"""Where the oracle puts layers, norms, embedding copies and MTP, against cuts written out by hand."""

import dataclasses

import pytest

from mtp_fixtures import Scale, preset
from mtp_regression.oracle.placement import Placement
from mtp_regression.ranks.parallel import Coordinates, Parallel


def placement(layout: str, pp: int, *, layers: int = 4, mtp: int = 1) -> Placement:
    tiny = preset("qwen3.6-35b-a3b").geometry(Scale.TINY).text
    text = dataclasses.replace(tiny, num_hidden_layers=layers, mtp_num_hidden_layers=mtp)
    return Placement(text, Parallel.parse(layout), Coordinates(pp=pp))


def held(layout: str, pp: int, *, layers: int = 4, mtp: int = 1) -> dict[str, int]:
    """Return the decoder layers of a pipeline rank: number in the checkpoint, by chunk and local number."""
    place = placement(layout, pp, layers=layers, mtp=mtp)
    return {
        layer.target.replace("decoder.layers.", "").rstrip("."): layer.place.layer or 0
        for layer in place.decoder_layers("model.")
    }


@pytest.mark.parametrize(
    ("layout", "layers", "ranks"),
    [
        ("pp2", 4, [{"0/0": 0, "0/1": 1}, {"0/0": 2, "0/1": 3}]),
        ("pp2 Et|tttmL", 4, [{"0/0": 0}, {"0/0": 1, "0/1": 2, "0/2": 3}]),
        ("pp3 Ett|tt|mL", 4, [{"0/0": 0, "0/1": 1}, {"0/0": 2, "0/1": 3}, {}]),
        ("pp2 E|ttttmL", 4, [{}, {"0/0": 0, "0/1": 1, "0/2": 2, "0/3": 3}]),
        ("pp2 Et|t|t|tmL", 4, [{"0/0": 0, "1/0": 2}, {"0/0": 1, "1/0": 3}]),
        ("pp2 E|tt|tt|mL", 4, [{"1/0": 2, "1/1": 3}, {"0/0": 0, "0/1": 1}]),
        ("pp2 first1", 4, [{"0/0": 0}, {"0/0": 1, "0/1": 2, "0/2": 3}]),
        ("pp2 last1", 4, [{"0/0": 0, "0/1": 1, "0/2": 2}, {"0/0": 3}]),
        ("pp3 first1 last1", 4, [{"0/0": 0}, {"0/0": 1, "0/1": 2}, {"0/0": 3}]),
        ("pp3 embedding loss", 4, [{"0/0": 0}, {"0/0": 1, "0/1": 2}, {"0/0": 3}]),
        ("pp5 embedding", 4, [{}, {"0/0": 0}, {"0/0": 1}, {"0/0": 2}, {"0/0": 3}]),
        ("pp2 vpp2 last4", 6, [{"0/0": 0, "1/0": 3}, {"0/0": 1, "0/1": 2, "1/0": 4, "1/1": 5}]),
        ("pp2 vpp2 embedding loss", 6, [{"0/0": 0, "1/0": 3, "1/1": 4}, {"0/0": 1, "0/1": 2, "1/0": 5}]),
    ],
)
def test_decoder_layers(layout: str, layers: int, ranks: list[dict[str, int]]) -> None:
    assert [held(layout, pp, layers=layers) for pp in range(len(ranks))] == ranks
    assert Parallel.parse(layout).pp == len(ranks)


def test_layer_keeps_its_kind_of_attention_in_any_stage() -> None:
    kinds = [layer.linear for layer in placement("pp2 Et|tttmL", 1).decoder_layers("model.")]
    assert kinds == [True, True, False]


@pytest.mark.parametrize(
    ("layout", "mtp", "final_norm", "with_mtp", "end"),
    [
        ("tp1", 1, (0, "0/"), (0, "0/"), (0, "0/")),
        ("pp2 vpp2", 1, (1, "1/"), (1, "1/"), (1, "1/")),
        ("pp3 Ett|tt|mL", 1, (1, "0/"), (2, "0/"), (2, "0/")),
        ("pp3 Ett|tt|mmL", 2, (1, "0/"), (2, "0/"), (2, "0/")),
        ("pp3 Ett|ttm|L", 1, (1, "0/"), (1, "0/"), (2, "0/")),
        ("pp2 E|tt|ttm|L", 1, (0, "1/"), (0, "1/"), (1, "1/")),
        ("pp2 Ettttm|L", 1, (0, "0/"), (0, "0/"), (1, "0/")),
        ("pp3 Ett|tt|L", 0, (1, "0/"), None, (2, "0/")),
        ("pp5 loss", 1, (3, "0/"), (4, "0/"), (4, "0/")),
        ("pp5 loss", 0, (3, "0/"), None, (4, "0/")),
    ],
)
def test_norm_mtp_and_end(
    layout: str,
    mtp: int,
    final_norm: tuple[int, str],
    with_mtp: tuple[int, str] | None,
    end: tuple[int, str],
) -> None:
    for pp in range(Parallel.parse(layout).pp):
        place = placement(layout, pp, mtp=mtp)
        assert (place.final_norm, place.last) == tuple(
            chunk if rank == pp else None for rank, chunk in (final_norm, end)
        )
        assert place.mtp == (with_mtp[1] if with_mtp and with_mtp[0] == pp else None)
        assert [layer.target for layer in place.mtp_layers()] == [
            f"{place.mtp}mtp.layers.{number}." for number in range(mtp if place.mtp else 0)
        ]


@pytest.mark.parametrize(("without_mtp", "stage"), [(False, 1), (True, 2)])
def test_norm_is_in_the_last_stage_where_mtp_is_switched_off(without_mtp: bool, stage: int) -> None:
    for pp in range(3):
        place = dataclasses.replace(placement("pp3 Ett|tt|L", pp, mtp=0), without_mtp=without_mtp)
        assert place.final_norm == ("0/" if pp == stage else None)


@pytest.mark.parametrize(
    "layout", ["pp3", "pp2 vpp4", "pp3 first1", "pp2 Et|ttmL", "pp2 first1 last1", "pp2 first5", "pp2 loss"]
)
def test_layers_that_do_not_fit_are_refused(layout: str) -> None:
    with pytest.raises(ValueError, match="4 decoder layers cannot be cut as pp"):
        held(layout, 0)
