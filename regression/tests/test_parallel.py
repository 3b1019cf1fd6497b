"""Parallel layouts: sizes, names, and the grid of the main job."""

import pytest

from mtp_regression.ranks.parallel import GRID, Parallel


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


def test_grid_is_what_the_main_job_promises() -> None:
    assert len(set(map(str, GRID))) == len(GRID) >= 10
    promised = (
        Parallel(ep=8, ranks=8),
        Parallel(tp=2, pp=2, ep=2, ranks=8),
        Parallel(tp=2, etp=2),
        Parallel(pp=2, vpp=2),
    )
    assert set(promised) <= set(GRID)
