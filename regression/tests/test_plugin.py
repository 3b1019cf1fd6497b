"""The suite's pytest plugin, in a pytest of its own."""

import pytest

from mtp_regression.plugin import MARKS


def test_marks_are_registered_and_described(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("")
    shown = pytester.runpytest_subprocess("--markers", "--strict-markers").stdout.str()
    for mark in MARKS:
        assert f"@pytest.mark.{mark}" in shown


RANKS = """
    import pytest
    from torch.distributed import get_rank as rank_of_world

    @pytest.mark.ranks(2)
    def test_mark(on_ranks):
        assert on_ranks(sizes.place) == [[0, 2], [1, 2]]

    def test_call(on_ranks):
        assert on_ranks(sizes.place, ranks=3) == [[0, 3], [1, 3], [2, 3]]

    def test_default(on_ranks):
        assert on_ranks(sizes.place) == [[0, 1]]
"""


def test_a_function_runs_on_as_many_ranks_as_the_mark_says(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(sizes="def place(world):\n    return [world.rank, world.size]\n")
    pytester.makepyfile("import sizes\n" + "\n".join(line[4:] for line in RANKS.splitlines()))
    pytester.runpytest_subprocess("-p", "no:xdist").assert_outcomes(passed=3)


def test_tests_for_a_gpu_are_left_out_and_counted_unless_asked_for(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.gpu
        def test_on_gpu(): raise SystemError("there is no GPU")

        def test_other(): pass
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1, deselected=1)
    pytester.runpytest_subprocess("-m", "gpu").assert_outcomes(failed=1, deselected=1)


def test_nothing_heavy_is_imported_where_no_test_asks_for_ranks(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import sys\n\ndef test_it(): assert not {'torch', 'numpy'} & sys.modules.keys()\n")
    pytester.runpytest_subprocess("-p", "no:hypothesispytest").assert_outcomes(passed=1)
