"""What `test_mtp_coverage` has real ranks do."""

from pathlib import Path

from mtp_regression.adapters.using import Used
from mtp_regression.coverage.judgement import RankParameters
from mtp_regression.coverage.tasks import parameters_of
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.world import World


def held(world: World, checkpoint: Path, parallel: Parallel) -> RankParameters:
    """Load a checkpoint for good, and tell what the rank holds."""
    from mtp_regression.adapters.megatron_bridge import MegatronBridge

    bridge = Used(MegatronBridge())
    bridge.begin(checkpoint, parallel)
    parameters, strays = parameters_of(bridge._auto, bridge.model)
    found = RankParameters(world.rank, bridge.coordinates(), parameters, strays)
    bridge.close()
    return found
