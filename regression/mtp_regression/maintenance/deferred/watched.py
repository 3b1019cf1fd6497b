"""An adapter whose ranks say which packages they use."""

from __future__ import annotations

import sys
import sysconfig
from types import CodeType
from typing import Any

from mtp_regression.adapters.megatron_bridge import PatchedMegatronBridge
from mtp_regression.ranks.parallel import Parallel

_LIBRARY = f"{sysconfig.get_paths()['purelib']}/"


class Watched(PatchedMegatronBridge):
    """An adapter that prints of each installed package, once, that a function of it begins."""

    def start(self, parallel: Parallel) -> None:
        """Begin to watch: the bridge has been imported by now."""
        monitoring: Any = sys.monitoring
        tool = monitoring.PROFILER_ID
        if not monitoring.get_tool(tool):
            seen: set[str] = set()

            def begins(code: CodeType, _: int) -> Any:
                package = code.co_filename.removeprefix(_LIBRARY).partition("/")[0]
                if package and package not in seen:
                    seen.add(package)
                    print(f"uses {package}", flush=True)
                return monitoring.DISABLE

            monitoring.use_tool_id(tool, __name__)
            monitoring.register_callback(tool, monitoring.events.PY_START, begins)
            monitoring.set_events(tool, monitoring.events.PY_START)
        super().start(parallel)
