"""Makes Megatron-Bridge carry the experts of multi-token prediction (MTP) blocks in either layout.

    import mtp_bridge_patch

    with mtp_bridge_patch.patched():   # or apply() ... revert()
        bridge = AutoBridge.from_hf_pretrained(path)

``python -m mtp_bridge_patch script.py args...`` runs a script that knows nothing of this package. Importing
it, or applying the patch, imports nothing outside the standard library.
"""

from mtp_bridge_patch.any_layer import SharedWeightsError
from mtp_bridge_patch.config_only import export_layout
from mtp_bridge_patch.detection import mtp_expert_layout
from mtp_bridge_patch.expert_layout import ExpertLayout
from mtp_bridge_patch.fix import Fix, Need
from mtp_bridge_patch.inspection import inspect
from mtp_bridge_patch.patch import FIXES, Status, applied, apply, patched, revert, status_of
from mtp_bridge_patch.releases import UnsupportedRelease
from mtp_bridge_patch.report import LayoutError, LayoutReport
from mtp_bridge_patch.strict_load import IncompleteLoadError, loading

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
