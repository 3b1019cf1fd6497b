"""How an attribute of upstream's is another one for a while."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any


def replaced(owner: Any, name: str, value: object, *, create: bool = False) -> AbstractContextManager[Any]:
    """Give a class or module another attribute, inside a ``with`` block.

    Args:
        owner: The class or module.
        name: The attribute's name; it may be inherited.
        value: The attribute meanwhile.
        create: Whether there need be no such attribute before.
    """
    from unittest.mock import patch  # a third of the time that importing this package would take

    return patch.object(owner, name, value, create=create)


def installed(owner: Any, /, **values: object) -> Callable[[], None]:
    """Give a class or module other attributes, until what is returned is called.

    Args:
        owner: The class or module, which has all of them.
        values: The attributes.
    """
    undo = ExitStack()
    for name, value in values.items():
        undo.enter_context(replaced(owner, name, value))
    return undo.close
