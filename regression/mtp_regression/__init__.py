"""Bit-exact round trips of MTP checkpoints through a bridge, and the checks that judge them.

    from mtp_regression import Request, round_trips

Names are imported when they are first used: `import mtp_regression` imports no torch.
"""

from typing import TYPE_CHECKING

from mtp_checkpoint.lazy import attach

if TYPE_CHECKING:  # the list of public names; `attach` reads it
    from mtp_regression.adapters.find import AdapterError as AdapterError
    from mtp_regression.adapters.megatron_core import MegatronCoreBridge as MegatronCoreBridge
    from mtp_regression.adapters.protocol import Adapter as Adapter
    from mtp_regression.adapters.protocol import MayHave as MayHave
    from mtp_regression.adapters.state_dict import StateDictBridge as StateDictBridge
    from mtp_regression.comparison.verdicts import Finding as Finding
    from mtp_regression.comparison.verdicts import Verdict as Verdict
    from mtp_regression.conformance.run import run_checks as run_checks
    from mtp_regression.conformance.testing import BridgeConformance as BridgeConformance
    from mtp_regression.ranks.devices import Device as Device
    from mtp_regression.ranks.parallel import GRID as GRID
    from mtp_regression.ranks.parallel import Coordinates as Coordinates
    from mtp_regression.ranks.parallel import Grid as Grid
    from mtp_regression.ranks.parallel import Parallel as Parallel
    from mtp_regression.ranks.processes.fork_server import PreloadError as PreloadError
    from mtp_regression.ranks.rank import RankError as RankError
    from mtp_regression.ranks.run import run as run
    from mtp_regression.ranks.world import World as World
    from mtp_regression.reporting.record import Crash as Crash
    from mtp_regression.reporting.record import Record as Record
    from mtp_regression.roundtrip.declared import DeclaredException as DeclaredException
    from mtp_regression.roundtrip.request import CannotRunError as CannotRunError
    from mtp_regression.roundtrip.request import Request as Request
    from mtp_regression.roundtrip.run import round_trips as round_trips
    from mtp_regression.scenarios.scenario import Scenario as Scenario
    from mtp_regression.scenarios.scenario import Use as Use
    from mtp_regression.scenarios.table import SCENARIOS as SCENARIOS
    from mtp_regression.stages.case import Case as Case
    from mtp_regression.stages.case import Stage as Stage
else:
    __all__, __getattr__, __dir__ = attach(__name__)
