"""What `test_readme` has a rank do."""

import mtp_bridge_patch
from mtp_regression.ranks.world import World


def run_snippet(_world: World, code: str, path: str) -> list[bool]:
    """Run a snippet that uses `AutoBridge` and `path`; tells if the patch was applied then, and after it."""
    from megatron.bridge import AutoBridge as Upstream  # as the adapter has already

    applied = []

    class AutoBridge:
        @staticmethod
        def from_hf_pretrained(folder: str) -> object:
            applied.append(bool(mtp_bridge_patch.applied()))
            loaded: object = Upstream.from_hf_pretrained(folder)
            return loaded

    exec(code, {"AutoBridge": AutoBridge, "path": path})
    return [*applied, bool(mtp_bridge_patch.applied())]
