"""Errors that one rank has, raised on all, so that no rank waits for one that is gone."""

import pickle
from collections.abc import Sequence
from typing import Any


class ElsewhereError(Exception):
    """Another rank has failed; which, and how, `raise_together` tells."""


def meet(group: Any, *, failed: bool = False) -> None:
    """Tell the ranks of a group whether this one has failed, and learn whether another has.

    Every rank of the group calls it as often as the others: before whatever they wait for each other in, and
    a last time at the end. One that has failed calls it in the place of the next of these, and then no more.

    Args:
        group: The process group; None is all ranks.
        failed: Whether this rank has.

    Raises:
        ElsewhereError: Another has failed, and this one has not.
    """
    import torch
    import torch.distributed as dist

    device = "cuda" if dist.get_backend(group) == "nccl" else "cpu"
    flag = torch.full((1,), int(failed), dtype=torch.int32, device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=group)
    if flag.item() and not failed:
        raise ElsewhereError


def raise_together(error: Exception | None, groups: Sequence[Any]) -> None:
    """Raise what any rank has raised on every rank; each calls it.

    Args:
        error: What this rank has raised; None if nothing.
        groups: Process groups by which, one after the other, what a rank tells comes to all; None is the
            group of all ranks.

    Raises:
        Exception: This rank's own error or, without one, that of the first rank that has one: of the same
            class and with the same text, and a note of the rank; a RuntimeError if it cannot be sent.
    """
    import torch.distributed as dist

    known = {dist.get_rank(): None if error is None else _portable(error)}
    for group in groups:
        told: list[Any] = [None] * dist.get_world_size(group)
        dist.all_gather_object(told, known, group=group)
        known = {rank: its for others in told for rank, its in others.items()}
    if error is not None:
        raise error
    for rank, its in sorted(known.items()):
        if its is not None:
            its.add_note(f"(raised by rank {rank}, and so by all)")
            raise its from None


def _portable(error: Exception) -> Exception:
    """Return an error that can be sent to another rank."""
    try:
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 (it is this rank's own)
    except Exception:  # whatever a class of somebody else's does when it is taken apart
        copy = None
    if type(copy) is type(error) and str(copy) == str(error):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")
