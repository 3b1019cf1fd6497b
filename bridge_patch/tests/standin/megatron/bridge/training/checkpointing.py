"""Stands in for ``megatron.bridge.training.checkpointing``."""

from importlib.metadata import version
from typing import Any

RUN_CONFIG: dict[str, Any] = {"model": {"pipeline_model_parallel_layout": None, "num_layers": 4}, "train": 1}


def read_run_config(run_config_filename: str) -> dict[str, Any]:
    """Return what the configuration of a run would be."""
    del run_config_filename
    return RUN_CONFIG


def _load_base_checkpoint(
    load_dir: str | None,
    ckpt_cfg: Any,
    rank0: bool = False,
    sharded_state_dict: dict[str, Any] | None = None,
    checkpointing_context: dict[str, Any] | None = None,
    ignore_ckpt_step: bool = False,
    cfg: Any = None,
    is_megatron_mimo: bool = False,
    *,
    pg_collection: Any,
) -> tuple[Any, str, bool, Any]:
    """Return no state, the folder that it would be of, and no more."""
    del ckpt_cfg, rank0, sharded_state_dict, checkpointing_context, ignore_ckpt_step, cfg
    del is_megatron_mimo, pg_collection
    return None, load_dir or "", False, None


if version("megatron-bridge").startswith("0.4."):
    _later = _load_base_checkpoint

    def _load_base_checkpoint(  # type: ignore[misc]
        load_dir: str | None,
        ckpt_cfg: Any,
        rank0: bool = False,
        sharded_state_dict: dict[str, Any] | None = None,
        checkpointing_context: dict[str, Any] | None = None,
        ignore_ckpt_step: bool = False,
        cfg: Any = None,
        *,
        pg_collection: Any,
    ) -> tuple[Any, str, bool, Any]:
        """Return the same."""
        del rank0, sharded_state_dict, checkpointing_context, ignore_ckpt_step, cfg
        return _later(load_dir, ckpt_cfg, pg_collection=pg_collection)
