"""Mistakes that bridges make, one at a time: would your tests notice?

    from mtp_regression.mutants import bridge_under_test

`mtpkit mutants --suite "pytest my_tests"` runs your tests once with each.
"""

from typing import TYPE_CHECKING

from mtp_checkpoint.lazy import attach

if TYPE_CHECKING:  # the list of public names; `attach` reads it
    from mtp_regression.mutants.under_test import bridge_under_test as bridge_under_test
    from mtp_regression.mutants.under_test import mutated as mutated
else:
    __all__, __getattr__, __dir__ = attach(__name__)
