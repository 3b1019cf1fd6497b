"""What the job that derives the list of deferred packages makes of an import and a run."""

import pytest

from mtp_regression.maintenance.deferred.derive import NEEDED, Import, problems

PRINTED = "\n".join(
    [
        "some warning | of a bridge",
        "import time: self [us] | cumulative | imported package",
        *(f"import time:       {n} |        900 |     torch.part{n}" for n in range(100, 160)),
        "import time:        50 |         50 |   sympy",
        "import time:        50 |         50 |     sympy.core",
        "import time:      9000 |       9000 | small.but_slow",
    ]
)


def test_an_import_is_added_up_by_package() -> None:
    found = Import.of(PRINTED)
    assert found.modules == {"torch": 60, "sympy": 2, "small": 1}
    assert found.micros == {"torch": sum(range(100, 160)), "sympy": 100, "small": 9000}
    assert found.large() == ["torch", "sympy"]


@pytest.mark.parametrize(
    ("used", "listed", "told"),
    [
        ({"torch"}, {"scipy"}, []),
        ({"torch", "scipy"}, {"scipy"}, ["scipy is deferred, and a conversion uses it"]),
        (set(), {"scipy"}, ["torch is imported, and no conversion uses it: it may be deferred"]),
        (set(), {"torch"}, []),
        ({"torch", "sympy"}, set(), ["sympy is used; it need not be said why it is imported"]),
    ],
)
def test_what_is_not_as_listed_is_told(used: set[str], listed: set[str], told: list[str]) -> None:
    assert "sympy" in NEEDED
    assert list(problems(Import.of(PRINTED), used, listed)) == told
