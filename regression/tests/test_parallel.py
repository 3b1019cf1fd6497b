"""Parallel layouts: sizes, names, and the grid of the main job."""

import pytest

from mtp_regression.ranks.parallel import GRID, Parallel, Resharding, read_layout
from mtp_regression.scenarios.table import RESHARDINGS


@pytest.mark.parametrize(
    ("text", "ranks"),
    [
        ("tp1", 1),
        ("tp2", 2),
        ("tp2 ep2", 2),
        ("tp2 etp2", 2),
        ("ep2 etp2", 4),
        ("ep8", 8),
        ("tp2-pp2-ep2-ranks8", 8),
        ("cp2", 2),
        ("tp2 cp2", 4),
        ("ep4 cp2", 4),
        ("tp1 ranks2", 2),
        ("pp4 first1", 4),
        ("pp4 first1 last1", 4),
        ("pp3 embedding loss", 3),
        ("pp2 Et|tttmL", 2),
        ("tp2 pp2 ep2 Et|tttmL ranks8", 8),
        ("pp2-E(tt|)*2tt|mL", 2),
    ],
)
def test_layout_is_read_and_printed(text: str, ranks: int) -> None:
    layout = Parallel.parse(text)
    assert layout.ranks == ranks
    assert Parallel.parse(str(layout)) == layout


@pytest.mark.parametrize("text", ["", "tp", "tp0", "xp2", "tp2 tp2", "tp2 ranks3", "vpp2"])
def test_malformed_layout_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a parallel layout|ranks|pipeline stages"):
        Parallel.parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("first1", "at least two pipeline stages"),
        ("embedding", "at least two pipeline stages"),
        ("EttttmL", "at least two pipeline stages"),
        ("pp2 Et|ttt|mL", "3 pipeline stages, not pp 2 times vpp"),
        ("pp2 vpp2 Et|tttmL", "2 pipeline stages, not pp 2 times vpp"),
        ("pp2 tE|tttmL", "not a parallel layout"),
        ("pp2 Et|tttm", "not a pipeline layout"),
        ("pp2 Etm|tttL", "not a pipeline layout"),
        ("pp2 Et|tttmL EttttmL", "not a parallel layout"),
        ("pp2 first1 loss", "by a layout, by first and last, or by embedding and loss"),
        ("pp2 last1 Et|tttmL", "by a layout, by first and last, or by embedding and loss"),
    ],
)
def test_pipeline_that_cannot_be_cut_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Parallel.parse(text)


def test_layout_gives_the_virtual_stages() -> None:
    layout = Parallel.parse("pp2 E(tt|)*2tt|mL")
    assert layout.layout_stages == ["Ett", "tt", "tt", "mL"]
    assert layout.vpp == 2
    assert str(layout) == "pp2 E(tt|)*2tt|mL"
    assert layout == Parallel(pp=2, vpp=2, layout="E(tt|)*2tt|mL")
    assert Parallel(pp=2, layout="Et*3|t*2mL").layout_stages == ["Ettt", "ttmL"]


def test_grid_is_what_the_main_job_promises() -> None:
    assert len(set(map(str, GRID))) == len(GRID) >= 10
    promised = (
        Parallel(ep=8, ranks=8),
        Parallel(tp=2, pp=2, ep=2, ranks=8),
        Parallel(tp=2, etp=2),
        Parallel(pp=2, vpp=2),
    )
    assert set(promised) <= set(GRID)


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("ep2 to tp2", "ep2", "tp2"),
        ("tp1 to ep4", "tp1 ranks4", "ep4"),
        ("ep4 to tp2", "ep4", "tp2 ranks4"),
        ("pp3 to ep2", "pp3 ranks6", "ep2 ranks6"),
        ("pp2 Et|tttmL to tp1", "pp2 Et|tttmL", "tp1 ranks2"),
        ("tp1 ranks2 to ep2 ranks4", "tp1 ranks4", "ep2 ranks4"),
    ],
)
def test_two_layouts_have_the_same_ranks(text: str, before: str, after: str) -> None:
    pair = read_layout(text)
    assert isinstance(pair, Resharding)
    assert (pair.before, pair.after) == (Parallel.parse(before), Parallel.parse(after))
    assert read_layout(str(pair)) == pair
    assert pair.ranks == pair.before.ranks == pair.after.ranks


@pytest.mark.parametrize("text", ["ep2 to", "to ep2", "ep2 to tp2 to pp2", "ep2 to xp2"])
def test_malformed_pair_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a parallel layout"):
        read_layout(text)


def test_pairs_take_every_axis_to_another() -> None:
    pairs = [pair for pair in RESHARDINGS if isinstance(pair, Resharding)]
    axes = ("tp", "pp", "vpp", "ep", "etp", "layout")
    one = Parallel()
    for axis in axes:
        assert any(getattr(pair.before, axis) != getattr(one, axis) for pair in pairs), axis
    assert len({str(pair) for pair in pairs}) == len(RESHARDINGS) >= 8
    assert any(pair.before == Parallel(ranks=pair.ranks) for pair in pairs), "one rank to many"
    assert any(pair.after == Parallel(ranks=pair.ranks) for pair in pairs), "many ranks to one"
