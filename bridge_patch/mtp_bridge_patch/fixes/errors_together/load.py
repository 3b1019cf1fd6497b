"""A load of a checkpoint whose error, on whichever rank, all ranks of the model raise."""

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from mtp_bridge_patch.upstream.mappings import param_mapping
from mtp_bridge_patch.upstream.parallel_groups import stage_and_pipeline
from mtp_bridge_patch.upstream.replacing import replaced
from mtp_bridge_patch.upstream.together import ElsewhereError, meet, raise_together

_NAMES = "_megatron_global_param_names_all_pp_ranks"
_EMBEDDINGS = "_broadcast_shared_embeddings"
_TASKS = "build_conversion_tasks"
_DISTRIBUTING = ("scatter_to_tp_ranks", "broadcast_tensor_to_tp_ranks")
"""What upstream's mappings send weights by."""


def load(bridge: Any, models: list[Any], proceed: Callable[[], Any]) -> Any:
    """Load a checkpoint, or raise on every rank of the model."""
    groups = stage_and_pipeline(models)
    return proceed() if groups is None else _Load(bridge, *groups).run(proceed)


class _Load:
    """A load on one rank.

    All ranks of a pipeline stage have the same layers, and so distribute as many weights, one after the
    other: they meet before each. Those of all stages meet where upstream has a stage wait for others.
    """

    def __init__(self, bridge: Any, stage: Any, pipeline: Any) -> None:
        self._bridge, self._stage, self._pipeline = bridge, stage, pipeline
        self._distributes = self._agreed = False

    def run(self, proceed: Callable[[], Any]) -> Any:
        try:
            with ExitStack() as contexts:
                for name, before, after in (
                    (_NAMES, self._agree, None),
                    (_TASKS, None, self._begin),
                    (_EMBEDDINGS, self._end, None),
                ):
                    contexts.enter_context(_around(self._bridge, name, before, after))
                for name in _DISTRIBUTING:
                    mapping = param_mapping().MegatronParamMapping
                    contexts.enter_context(_around(mapping, name, self._meet, None))
                result = proceed()
            if not self._agreed:
                self._end()
        except ElsewhereError:
            self._raise(None)
        except Exception as error:
            if self._agreed:  # it is another rank's already, or after all that ranks meet for
                raise
            if self._distributes:
                meet(self._stage, failed=True)
            self._raise(error)
        return result

    def _meet(self) -> None:
        if self._distributes:
            meet(self._stage)

    def _begin(self) -> None:
        self._agree()
        self._distributes = True

    def _end(self) -> None:
        self._meet()
        self._distributes = False
        self._agree()
        self._agreed = True

    def _agree(self) -> None:
        try:
            raise_together(None, [self._stage, self._pipeline])
        except Exception:
            self._agreed = True
            raise

    def _raise(self, error: Exception | None) -> None:
        raise_together(error, [self._stage, self._pipeline])


def _around(
    owner: Any, name: str, before: Callable[[], None] | None, after: Callable[[], None] | None
) -> Any:
    """Call functions before and after a method, inside a ``with`` block."""
    upstream = getattr(owner, name)

    @functools.wraps(upstream)
    def method(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before()
        result = upstream(*args, **kwargs)
        if after is not None:
            after()
        return result

    return replaced(owner, name, method)
