"""The methods that save a folder: those of all models, wrapped for the family alone."""

import functools
import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import MappingProxyType, ModuleType
from typing import Any

from mtp_bridge_patch.upstream.bridges import MODULES, is_of_family
from mtp_bridge_patch.upstream.hooks import Hooks, Save
from mtp_bridge_patch.upstream.methods import Fixes, Method, install_bridges
from mtp_bridge_patch.upstream.replacing import replaced

_AUTO_BRIDGE_MODULE = "megatron.bridge.models.conversion.auto_bridge"
_PRETRAINED_MODULE = "megatron.bridge.models.hf_pretrained.base"

Hook = Callable[[Save, Callable[[], Any]], Any]


class FamilyMethod:
    """A method that models of the family have another one of.

    Of every other object, and of the class, it is upstream's own function.
    """

    def __init__(self, upstream: Method, wrapper: Method, pretrained_of: Callable[[Any], Any]) -> None:
        """Wrap a method.

        Args:
            upstream: The function of upstream's class.
            wrapper: What the family has instead.
            pretrained_of: Returns the checkpoint or config that an object of the class is about.
        """
        self._upstream, self._pretrained_of = upstream, pretrained_of
        self._wrapper = functools.wraps(upstream)(wrapper)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Return what the attribute is of an object, or of the class."""
        function: Any = self._upstream
        if instance is not None:
            config = _known_config(self._pretrained_of(instance))
            if config is None or is_of_family(config):  # if not known yet, it is looked at in the call
                function = self._wrapper
        return function.__get__(instance, owner)


def install_save(module: ModuleType, fixes: Fixes) -> Callable[[], None]:
    """Call the hooks `save` and `save_weights` where `AutoBridge` saves a model of the family.

    Args:
        module: The imported ``megatron.bridge.models.conversion.auto_bridge``.
        fixes: Whose hooks are called.

    Returns:
        What puts the class back as it was.
    """
    undo = ExitStack()
    for name, hook in _SAVES.items():
        undo.callback(_install(module.AutoBridge, name, Hooks.of(fixes, hook), _of_auto_bridge))
    return undo.close


def install_artifacts(module: ModuleType, fixes: Fixes) -> Callable[[], None]:
    """Call the hooks `save_artifacts` where what goes with the weights of a model of the family is saved.

    Args:
        module: The imported ``megatron.bridge.models.hf_pretrained.base``.
        fixes: Whose hooks are called.

    Returns:
        What puts the class back as it was.
    """
    return _install(module.PreTrainedBase, "save_artifacts", Hooks.of(fixes, "save_artifacts"), _itself)


def _install(
    owner: Any, name: str, hooks: Sequence[Hook], pretrained_of: Callable[[Any], Any]
) -> Callable[[], None]:
    undo = ExitStack()
    if hooks:
        upstream = getattr(owner, name)
        method = FamilyMethod(upstream, _wrapper(upstream, hooks, pretrained_of), pretrained_of)
        undo.enter_context(replaced(owner, name, method))
    return undo.close


def _wrapper(upstream: Method, hooks: Sequence[Hook], pretrained_of: Callable[[Any], Any]) -> Method:
    signature = inspect.signature(upstream)

    def save(self: Any, *args: Any, **kwargs: Any) -> Any:
        save = Save(self, pretrained_of(self), signature.bind(self, *args, **kwargs).arguments)
        proceed: Callable[[], Any] = functools.partial(upstream, self, *args, **kwargs)
        if is_of_family(save.config):
            for hook in reversed(hooks):
                proceed = functools.partial(hook, save, proceed)
        return proceed()

    return save


def _of_auto_bridge(auto_bridge: Any) -> Any:
    return getattr(auto_bridge, "hf_pretrained", None)


def _known_config(pretrained: Any) -> Any:
    """Return the config of a checkpoint, or a config alone; None if to ask for it would load it."""
    if isinstance(getattr(type(pretrained), "config", None), property):
        return getattr(pretrained, "_config", None)
    return getattr(pretrained, "config", pretrained)


def _itself(pretrained: Any) -> Any:
    return pretrained


_SAVES = MappingProxyType({"save_hf_pretrained": "save", "save_hf_weights": "save_weights"})
"""Methods of `AutoBridge`, and the hooks of each; the first calls the second."""

INSTALLERS = MappingProxyType(
    {
        **dict.fromkeys(MODULES, install_bridges),
        _AUTO_BRIDGE_MODULE: install_save,
        _PRETRAINED_MODULE: install_artifacts,
    }
)
"""What wraps methods of each of upstream's modules; one that a release does not have is left out."""
