"""An export of a model whose error, on whichever rank, all ranks that share the model raise."""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from mtp_bridge_patch.upstream.mappings import param_mapping
from mtp_bridge_patch.upstream.parallel_groups import sharing_ranks
from mtp_bridge_patch.upstream.replacing import replaced
from mtp_bridge_patch.upstream.together import ElsewhereError, meet, raise_together

_GATHERING = (
    "broadcast_from_pp_rank",
    "broadcast_obj_from_pp_rank",
    "gather_from_tp_ranks",
    "gather_from_ep_ranks",
)
"""What upstream's mappings collect weights by."""

_exporting: ContextVar[Any] = ContextVar("exporting", default=None)
"""The ranks that meet in an export, while this rank makes one of its tensors; else None."""


def stream(models: list[Any], proceed: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """Export a model, or raise on every rank that has a part of it."""
    ranks = sharing_ranks(models)
    if ranks is None:
        return proceed()
    with _export_of(ranks):
        weights = iter(proceed())
    return _streamed(weights, ranks)


def _streamed(weights: Iterator[Any], ranks: Any) -> Iterator[Any]:
    end = object()
    while True:
        with _export_of(ranks):
            weight = next(weights, end)
            if weight is end:
                meet(ranks)
        if weight is end:
            return
        yield weight


@contextmanager
def _export_of(ranks: Any) -> Iterator[None]:
    """Have ranks meet before they wait for each other, and raise together, inside a ``with`` block.

    It is entered for each tensor: between two, models of other families may be exported.
    """
    mapping = param_mapping().MegatronParamMapping
    token = _exporting.set(ranks)
    try:
        with ExitStack() as collectives:
            for name in _GATHERING:
                collectives.enter_context(replaced(mapping, name, _met(getattr(mapping, name))))
            yield
    except ElsewhereError:
        raise_together(None, [ranks])
    except Exception as error:
        meet(ranks, failed=True)
        raise_together(error, [ranks])
    finally:
        _exporting.reset(token)


def _met(upstream: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(upstream)
    def collective(*args: Any, **kwargs: Any) -> Any:
        _met_in_export()
        return upstream(*args, **kwargs)

    return collective


def _met_in_export() -> None:
    if (ranks := _exporting.get()) is not None:
        meet(ranks)


def naming() -> AbstractContextManager[None]:
    """Meet before the stages of the pipeline tell each other their parameters' names."""
    _met_in_export()
    return nullcontext()


def built(tasks: list[Any]) -> list[Any]:
    """Meet when a rank has its tasks, without a change to them."""
    _met_in_export()
    return tasks
