"""A save of a folder whose error, on whichever rank, all ranks raise."""

import functools
import importlib
import inspect
from collections.abc import Callable
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from mtp_bridge_patch.upstream.hooks import Save
from mtp_bridge_patch.upstream.replacing import replaced
from mtp_bridge_patch.upstream.together import ElsewhereError, meet, raise_together

_SAVING = ("barrier", "all_gather_object", "broadcast_object_list")
"""What all ranks wait for each other in, besides the export of the weights."""

_is_saving: ContextVar[bool] = ContextVar("is_saving", default=False)


def save(call: Save, proceed: Callable[[], Any]) -> Any:
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
