"""Makes Megatron-Bridge carry the experts of multi-token prediction (MTP) blocks in either layout.

    import mtp_bridge_patch

    with mtp_bridge_patch.patched():   # or apply() ... revert()
        bridge = AutoBridge.from_hf_pretrained(path)

``python -m mtp_bridge_patch script.py args...`` runs a script that knows nothing of this package. Importing
it, or applying the patch, imports nothing outside the standard library.
"""

from typing import TYPE_CHECKING

from mtp_checkpoint.lazy import attach

if TYPE_CHECKING:  # the list of public names; `attach` reads it
    from mtp_bridge_patch.errors import IncompleteLoadError as IncompleteLoadError
    from mtp_bridge_patch.errors import SharedWeightsError as SharedWeightsError
    from mtp_bridge_patch.errors import UnsupportedConfigError as UnsupportedConfigError
    from mtp_bridge_patch.errors import UnsupportedRelease as UnsupportedRelease
    from mtp_bridge_patch.fix import Fix as Fix
    from mtp_bridge_patch.fix import Need as Need
    from mtp_bridge_patch.fixes.config_only.export import export_layout as export_layout
    from mtp_bridge_patch.fixes.strict_load import loading as loading
    from mtp_bridge_patch.patch import FIXES as FIXES
    from mtp_bridge_patch.patch import Status as Status
    from mtp_bridge_patch.patch import applied as applied
    from mtp_bridge_patch.patch import apply as apply
    from mtp_bridge_patch.patch import patched as patched
    from mtp_bridge_patch.patch import revert as revert
    from mtp_bridge_patch.patch import status_of as status_of
    from mtp_checkpoint.errors import CheckpointError as CheckpointError
    from mtp_checkpoint.errors import LayoutError as LayoutError
    from mtp_checkpoint.inspection.inspection import inspect as inspect
    from mtp_checkpoint.inspection.inspection import mtp_expert_layout as mtp_expert_layout
    from mtp_checkpoint.inspection.report import LayoutReport as LayoutReport
    from mtp_checkpoint.layouts.expert_layout import ExpertLayout as ExpertLayout
else:
    __all__, __getattr__, __dir__ = attach(__name__)
