"""What stands for a class or a function of a module that has not been run yet; see `imports`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any


class StandIn:
    """A class or a function; whatever is done with it is done with the real one, for which the module is run.

    Two things are said without it. What it is: `isinstance(stand_in, type)`. And that nothing is an instance
    or a subclass of a class of a package that has not been run: by a class, and by a function of the kind
    "whether", which says whether there is such an instance in its argument.

    Args:
        module: Name of the module.
        name: The name in it.
        kind: "class" (of no metaclass that has `isinstance` say otherwise), "function" or "whether".
        touch: Runs the module of a name.
        touched: Says whether its package has been touched.
    """

    def __init__(
        self,
        module: str,
        name: str,
        kind: str,
        touch: Callable[[str], ModuleType],
        touched: Callable[[], bool],
    ) -> None:
        vars(self).update(_of=(module, name), _kind=kind, _touch=touch, _touched=touched)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        kind = _kind(self)
        return type(real(self)) if not kind else type if kind == "class" else FunctionType

    def __instancecheck__(self, instance: object) -> bool:
        return _kind(self) != "class" and isinstance(instance, real(self))

    def __subclasscheck__(self, subclass: type) -> bool:
        return _kind(self) != "class" and issubclass(subclass, real(self))

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call the real one, or say False for it."""
        return _kind(self) != "whether" and real(self)(*args, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        return _named, vars(self)["_of"]

    def __getattr__(self, name: str) -> Any:
        return getattr(real(self), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(real(self), name, value)

    def __mro_entries__(self, _bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (real(self),)

    def __getitem__(self, key: Any) -> Any:
        return real(self)[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(real(self))

    def __or__(self, other: Any) -> Any:
        return real(self) | other

    def __ror__(self, other: Any) -> Any:
        return other | real(self)

    def __eq__(self, other: object) -> Any:
        return real(self) == other

    def __hash__(self) -> int:
        return hash(real(self))

    def __bool__(self) -> bool:
        return bool(real(self))

    def __repr__(self) -> str:
        return repr(real(self))


def real(stand_in: StandIn) -> Any:
    """Return what a stand-in stands for.

    Raises:
        ImportError: The module cannot be imported, or has no such name.
    """
    own = vars(stand_in)
    module, name = own["_of"]
    found = own["_touch"](module)
    try:
        return getattr(found, name)
    except AttributeError:
        raise ImportError(f"cannot import name {name!r} from {module!r}", name=module) from None


def _kind(stand_in: StandIn) -> str:
    """Return what a stand-in is; "" if the real thing is there to be asked."""
    own = vars(stand_in)
    return "" if own["_touched"]() else str(own["_kind"])


def _named(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)
