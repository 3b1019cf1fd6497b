"""Fix ``mtp-layout-check``: a checkpoint that contradicts itself is refused before anything is loaded.

No release looks at more than one key of the MTP experts. Both layouts in one checkpoint, an expert missing,
half of a packed pair, or a config that declares other experts or MTP layers than there are, all load without
an error, at best with a warning, and leave parameters as they were initialized.
"""

import logging

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.conversion import Conversion

_logger = logging.getLogger(__name__)


def _check(conversion: Conversion) -> None:
    for note in conversion.report.require_consistent().notes:
        _logger.info("%s: %s", conversion.report.checkpoint, note)


FIX = Fix(
    id="mtp-layout-check",
    failure="Mixed or partial layouts, and experts or MTP layers other than declared, load with no error.",
    fixed_since=None,
    check=_check,
)
