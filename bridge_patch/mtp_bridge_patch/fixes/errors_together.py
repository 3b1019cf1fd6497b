"""Fix ``errors-together``: what one rank raises while it loads or saves, all raise, and none waits for it.

A shard that one rank cannot read, a shape that only the rank that cuts a weight looks at, a disk that is
full: upstream raises on that rank, and the others wait in a collective until its time limit, whose error does
not say why. Here ranks tell each other, wherever they would wait, whether they have failed. An error of one
rank while weights are exported is as upstream has it.
"""

import functools
import importlib
import inspect
from collections.abc import Callable
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.hooks import Save
from mtp_bridge_patch.upstream.mappings import param_mapping
from mtp_bridge_patch.upstream.parallel_groups import stage_and_pipeline
from mtp_bridge_patch.upstream.replacing import replaced
from mtp_bridge_patch.upstream.together import ElsewhereError, meet, raise_together

_NAMES = "_megatron_global_param_names_all_pp_ranks"
_EMBEDDINGS = "_broadcast_shared_embeddings"
_TASKS = "build_conversion_tasks"
_DISTRIBUTING = ("scatter_to_tp_ranks", "broadcast_tensor_to_tp_ranks")
"""What upstream's mappings send weights by while a checkpoint is loaded."""
_SAVING = ("barrier", "all_gather_object", "broadcast_object_list")
"""What all ranks wait for each other in while a folder is saved, besides the export of the weights."""

_is_saving: ContextVar[bool] = ContextVar("is_saving", default=False)


def _load(bridge: Any, models: list[Any], proceed: Callable[[], Any]) -> Any:
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


def _save(call: Save, proceed: Callable[[], Any]) -> Any:
    """Save a folder, or raise on every rank."""
    import torch.distributed as dist

    if _is_saving.get() or not dist.is_initialized():
        return proceed()
    token = _is_saving.set(True)
    failures: list[Exception] = []
    try:
        with ExitStack() as contexts:
            for name in _SAVING:
                contexts.enter_context(replaced(dist, name, _met(getattr(dist, name))))
            safetensors = importlib.import_module("safetensors.torch")
            contexts.enter_context(replaced(safetensors, "save_file", _kept(safetensors.save_file, failures)))
            source: Any = getattr(getattr(call.pretrained, "state", None), "source", None)
            if hasattr(source, "save_generator"):
                contexts.enter_context(replaced(source, "save_generator", _drained(source.save_generator)))
            result = proceed()
        if failures:
            raise failures[0]
        meet(None)
    except ElsewhereError:
        raise_together(None, [None])
    except Exception as error:
        meet(None, failed=True)
        raise_together(failures[0] if failures else error, [None])
    finally:
        _is_saving.reset(token)
    return result


def _met(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """Return a collective of all ranks before which they meet."""
    signature = inspect.signature(upstream)

    @functools.wraps(upstream)
    def collective(*args: Any, **kwargs: Any) -> Any:
        if signature.bind(*args, **kwargs).arguments.get("group") is None:
            meet(None)
        return upstream(*args, **kwargs)

    return collective


def _kept(upstream: Callable[..., Any], failures: list[Exception]) -> Callable[..., Any]:
    """Return a function that keeps the error of a file, so that the export goes on for the other ranks."""

    @functools.wraps(upstream)
    def save_file(tensors: Any, filename: Any, *args: Any, **kwargs: Any) -> None:
        if failures:
            return
        try:
            upstream(tensors, filename, *args, **kwargs)
        except Exception as error:
            failures.append(error)
            with suppress(OSError):  # what is half there, rank 0 would read for the index
                Path(filename).unlink()

    return save_file


def _drained(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that takes part in the whole export, also where it cannot save."""

    @functools.wraps(upstream)
    def save_generator(generator: Any, *args: Any, **kwargs: Any) -> Any:
        weights = iter(generator)
        try:
            return upstream(weights, *args, **kwargs)
        except Exception:
            for _ in weights:
                pass
            raise

    return save_generator


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


FIX = Fix(
    id="errors-together",
    failure="An error of one rank in a load or a save leaves the others waiting until the time limit.",
    fixed_since=None,
    load=_load,
    save=_save,
    save_weights=_save,
)
