"""Makes Megatron-Bridge carry the experts of multi-token prediction (MTP) blocks in either layout.

    import mtp_bridge_patch

    with mtp_bridge_patch.patched():   # or apply() ... revert()
        bridge = AutoBridge.from_hf_pretrained(path)

``python -m mtp_bridge_patch script.py args...`` runs a script that knows nothing of this package. Importing
it, or applying the patch, imports nothing outside the standard library.
"""

from mtp_bridge_patch.errors import IncompleteLoadError, SharedWeightsError, UnsupportedRelease
from mtp_bridge_patch.fix import Fix, Need
from mtp_bridge_patch.fixes.config_only.export import export_layout
from mtp_bridge_patch.fixes.strict_load import loading
from mtp_bridge_patch.patch import FIXES, Status, applied, apply, patched, revert, status_of
from mtp_checkpoint.errors import LayoutError
from mtp_checkpoint.inspection.inspection import inspect, mtp_expert_layout
from mtp_checkpoint.inspection.report import LayoutReport
from mtp_checkpoint.layouts.expert_layout import ExpertLayout

__all__ = [
    "FIXES",
    "ExpertLayout",
    "Fix",
    "IncompleteLoadError",
    "LayoutError",
    "LayoutReport",
    "Need",
    "SharedWeightsError",
    "Status",
    "UnsupportedRelease",
    "applied",
    "apply",
    "export_layout",
    "inspect",
    "loading",
    "mtp_expert_layout",
    "patched",
    "revert",
    "status_of",
]
