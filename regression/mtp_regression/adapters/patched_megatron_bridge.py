"""Megatron-Bridge with `mtp_bridge_patch` applied."""

from __future__ import annotations

import mtp_bridge_patch
from mtp_regression.adapters.megatron_bridge import MegatronBridge


class PatchedMegatronBridge(MegatronBridge):
    """The bridge as `mtp_bridge_patch.apply()` leaves it."""

    def __init__(self) -> None:
        super().__init__()
        mtp_bridge_patch.apply()
        self.release += "+patch"

    def close(self) -> None:
        """Revert the patch, and give back what `load` took."""
        super().close()
        mtp_bridge_patch.revert()
