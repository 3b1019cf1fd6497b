"""Finds an adapter by name, and looks at what it has before any rank starts."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from mtp_checkpoint.layouts.keys import Block
from mtp_regression.adapters import SHIPPED
from mtp_regression.adapters.protocol import Adapter, MayHave
from mtp_regression.deferred.imports import deferred_packages
from mtp_regression.ranks.parallel import GRID, Parallel


class AdapterError(ValueError):
    """A name that is no adapter's; the message says why."""


@dataclass(frozen=True)
class Examined:
    """What is known of an adapter without making one.

    Attributes:
        problem: Why it is none; empty if it is one.
        lacks: The roles of `MayHave` that it does not have.
        in_threads: Whether its ranks are threads.
        grid: The layouts that it can do.
        built_twice: Parts of the model that take their memory twice while it is built; see `MayHave`.
        declared: Failures that it declares; see `roundtrip.declared`.
        uses: Other ways in which the bridge is used, and the adapter of each.
        deferred: Packages that it imports, whose import is deferred; see `deferred`.
    """

    problem: str = ""
    lacks: frozenset[str] = frozenset()
    in_threads: bool = False
    grid: Sequence[Parallel] = GRID
    built_twice: Collection[Block] = ()
    declared: Any = ()
    uses: Mapping[str, str] = field(default_factory=dict)
    deferred: Sequence[str] = ()


def full_name(name: str) -> str:
    """Return the name of an adapter's class: of one that ships with the kit, its short name is enough."""
    return SHIPPED.get(name, name)


def find(name: str) -> type[Adapter]:
    """Import an adapter class.

    Args:
        name: "package.module:Class", or the short name of one that ships with the kit.

    Raises:
        AdapterError: The name is not of that form, the module has no such class, or the class lacks a role.
        ImportError: There is no such module, or it cannot be imported.
    """
    module, _, attribute = full_name(name).partition(":")
    if not module or not attribute:
        raise AdapterError(
            f"an adapter is named package.module:Class, or is one of {', '.join(SHIPPED)}; not {name!r}"
        )
    found = getattr(importlib.import_module(module), attribute, None)
    if not isinstance(found, type):
        raise AdapterError(f"{module} has no class {attribute}")
    if missing := _missing(found, Adapter):
        raise AdapterError(f"{name} is no adapter; it has no {', '.join(missing)}")
    if {"stream", "save"} <= set(_missing(found, MayHave)):
        raise AdapterError(f"{name} is no adapter; it has neither stream nor save")
    if not isinstance(getattr(found, "bridge", None), str):
        raise AdapterError(f"{name} is no adapter; it has no name, bridge")
    if (ranks := getattr(found, "ranks", "processes")) not in ("processes", "threads"):
        raise AdapterError(f"{name}: ranks are processes or threads, not {ranks!r}")
    if any(variable.startswith("MTPKIT_MUTANT") for variable in os.environ):  # by name: it stands above
        found = importlib.import_module("mtp_regression.mutants.under_test").mutated(found)
    return cast(type[Adapter], found)


def examine(name: str) -> Examined:
    """Import an adapter class, and see what it has."""
    try:
        found = find(name)
    except (AdapterError, ImportError) as error:
        return Examined(str(error))
    return Examined(
        lacks=frozenset(_missing(found, MayHave)),
        in_threads=getattr(found, "ranks", "") == "threads",
        grid=tuple(getattr(found, "grid", GRID)),
        built_twice=tuple(getattr(found, "built_twice", ())),
        declared=getattr(found, "declared", ()),
        uses=dict(getattr(found, "uses", {})),
        deferred=deferred_packages(),
    )


def _missing(found: type, protocol: type) -> list[str]:
    """Return the methods of a protocol that a class does not have."""
    methods = [name for name, of in vars(protocol).items() if inspect.isfunction(of) and name[0] != "_"]
    return [method for method in methods if not callable(getattr(found, method, None))]
