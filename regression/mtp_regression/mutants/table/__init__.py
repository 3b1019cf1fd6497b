"""The mutants, a row each."""

from mtp_regression.mutants.mutant import Mutant
from mtp_regression.mutants.table.attention import ATTENTION
from mtp_regression.mutants.table.exports import EXPORTS
from mtp_regression.mutants.table.files import FILES
from mtp_regression.mutants.table.keys import KEYS
from mtp_regression.mutants.table.loads import LOADS
from mtp_regression.mutants.table.methods import METHODS
from mtp_regression.mutants.table.mlp import MLP
from mtp_regression.mutants.table.refusals import REFUSALS

MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant for mutant in (*MLP, *ATTENTION, *LOADS, *EXPORTS, *KEYS, *METHODS, *FILES, *REFUSALS)
}
"""All mutants, by name."""
