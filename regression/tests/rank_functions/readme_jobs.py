"""What `test_readme` has a rank do."""

import mtp_bridge_patch
from mtp_regression.ranks.world import World


def run_snippet(_world: World, code: str, path: str) -> list[bool]:
    """Run a snippet that uses `AutoBridge` and `path`; tells if the patch was applied then, and after it."""
    from mtp_regression.adapters import megatron_bridge  # imports Megatron

    applied = []

    class AutoBridge:
        @staticmethod
        def from_hf_pretrained(folder: str) -> object:
            applied.append(bool(mtp_bridge_patch.applied()))
            return megatron_bridge.AutoBridge.from_hf_pretrained(folder)

    exec(code, {"AutoBridge": AutoBridge, "path": path})
    return [*applied, bool(mtp_bridge_patch.applied())]
