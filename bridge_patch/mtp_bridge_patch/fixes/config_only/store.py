"""The record of an export's layouts beside a Megatron checkpoint; part of ``config-only-export``.

It is stored wherever Megatron-Bridge stores a model's config, and comes back where it loads one: for a
conversion (``load_model_config``), and where training goes on from a checkpoint (``_load_base_checkpoint``).
"""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from mtp_bridge_patch.fixes.config_only.record import ExportRecord
from mtp_bridge_patch.upstream.replacing import installed

_RUN_CONFIG = "run_config.yaml"
_logger = logging.getLogger(__name__)


def install_store(module: ModuleType) -> Callable[[], None]:
    """Store the record where a Megatron checkpoint's config is stored.

    Args:
        module: The imported ``megatron.bridge.training.config``.

    Returns:
        What puts the class back as it was.
    """
    upstream = module.ConfigContainer.to_yaml

    @functools.wraps(upstream)
    def to_yaml(self: Any, yaml_path: Any = None, *args: Any, **kwargs: Any) -> Any:
        result = upstream(self, yaml_path, *args, **kwargs)
        if yaml_path is not None and Path(yaml_path).name == _RUN_CONFIG:
            _store(ExportRecord.on(getattr(self, "model", None)), str(yaml_path))
        return result

    return installed(module.ConfigContainer, to_yaml=to_yaml)


def _store(record: ExportRecord | None, config_path: str) -> None:
    folder = Path(config_path).parent
    if "://" in config_path:  # upstream writes to remote stores as well
        if record is not None:
            _logger.warning(
                "The layouts of routed experts are not recorded beside %s, which is no local path.",
                config_path,
            )
    elif record is not None:
        record.write(folder)
    else:
        ExportRecord.remove(folder)  # that of another model, saved here before


def install_restore(module: ModuleType) -> Callable[[], None]:
    """Restore the record where a Megatron checkpoint's config is loaded.

    Args:
        module: The imported ``megatron.bridge.training.model_load_save``.

    Returns:
        What puts the module back as it was.
    """
    upstream = module.load_model_config

    @functools.wraps(upstream)
    def load_model_config(checkpoint_path: Any, *args: Any, **kwargs: Any) -> Any:
        result = upstream(checkpoint_path, *args, **kwargs)
        _restore(str(checkpoint_path), result[0] if isinstance(result, tuple) else result)
        return result

    return installed(module, load_model_config=load_model_config)


def install_resume(module: ModuleType) -> Callable[[], None]:
    """Restore the record where training goes on from a Megatron checkpoint.

    Args:
        module: The imported ``megatron.bridge.training.checkpointing``.

    Returns:
        What puts the module back as it was.
    """
    upstream = module._load_base_checkpoint

    @functools.wraps(upstream)
    def _load_base_checkpoint(*args: Any, **kwargs: Any) -> Any:
        result = upstream(*args, **kwargs)
        folder, config = result[1], kwargs.get("cfg")  # upstream passes it by name
        if folder and config is not None:
            _restore(str(folder), config.model)
        return result

    return installed(module, _load_base_checkpoint=_load_base_checkpoint)


def _restore(folder: str, model_config: Any) -> None:
    if "://" not in folder and (record := ExportRecord.read(Path(folder))):
        record.put_on([model_config])
