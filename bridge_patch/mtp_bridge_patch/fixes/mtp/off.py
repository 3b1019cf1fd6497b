"""Fix ``mtp-off``: a model that was built without the checkpoint's MTP layers is saved as one that has none.

Reinforcement learning sets ``mtp_num_layers = None`` on the provider. What upstream then saves has a config
that still declares the layers. 0.4.x and 0.5.x write a file when they have all that the checkpoint has in it:
one with an MTP tensor is left out, with all others in it and a line on standard output.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.conversion import chunks
from mtp_bridge_patch.upstream.hooks import Save
from mtp_bridge_patch.upstream.replacing import replaced
from mtp_checkpoint.layouts.keys import Block, parse

_FIELD = "mtp_num_hidden_layers"
_FILES = "_key_to_filename_map_cache"


def _save(call: Save, proceed: Callable[[], Any]) -> Any:
    """Save a config that declares no MTP layer, if the model has none."""
    if not _is_off(call):
        return proceed()
    with _undeclared(call.config):
        return proceed()


def _save_weights(call: Save, proceed: Callable[[], Any]) -> Any:
    """Expect no MTP tensor in the files, if the model has none."""
    source: Any = getattr(getattr(call.pretrained, "state", None), "source", None)
    if not _is_off(call) or not hasattr(source, _FILES):
        return proceed()
    files = source.key_to_filename_map.items()
    with replaced(source, _FILES, {key: file for key, file in files if parse(key).block is not Block.MTP}):
        return proceed()


def _is_off(call: Save) -> bool:
    models = chunks(call.arguments["model"])
    return bool(models) and not getattr(models[0].config, "mtp_num_layers", True)


@contextmanager
def _undeclared(config: Any) -> Iterator[None]:
    """Have a config declare no MTP layer, inside a ``with`` block."""
    text = getattr(config, "text_config", config)
    layers = getattr(text, _FIELD, None)
    if layers:
        setattr(text, _FIELD, 0)
    try:
        yield
    finally:
        if layers:
            setattr(text, _FIELD, layers)


FIX = Fix(
    id="mtp-off",
    failure="A model saved with MTP off declares MTP layers, and with 0.4.x and 0.5.x lacks other tensors.",
    fixed_since=None,
    save=_save,
    save_weights=_save_weights,
)
