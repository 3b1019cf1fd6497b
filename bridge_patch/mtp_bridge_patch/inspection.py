"""Tells how a checkpoint stores its routed experts: `inspect` returns one report of all there is to say.

Only names, shapes and dtypes are looked at, never a tensor's data, and never the name of a model or folder.
Nothing but the standard library is needed.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mtp_bridge_patch.contradictions import Tensors, problems
from mtp_bridge_patch.declaration import Declaration
from mtp_bridge_patch.expert_keys import Block, ExpertKeys
from mtp_bridge_patch.expert_layout import ExpertLayout
from mtp_bridge_patch.headers import TensorHeader
from mtp_bridge_patch.index import INDEX_NAME, read_checkpoint, read_index
from mtp_bridge_patch.report import LayoutReport
from mtp_bridge_patch.untrusted import check_inside

_LAYER = re.compile(r".*\.layers\.[0-9]+\.", re.DOTALL)


def inspect(source: object, *, config: object = None, index_only: bool = False) -> LayoutReport:
    """Tell how a checkpoint stores its routed experts.

    Args:
        source: A checkpoint's folder or one safetensors file (path or string); keys; Megatron-Bridge's
            `hf_pretrained`, or its `state`, or its `state.source`; or a config alone.
        config: The checkpoint's config, a mapping or an object; by default that of the folder or of
            `hf_pretrained`, if there is one.
        index_only: Look at the names in a folder's index alone, where it has one: no shapes, no dtypes, and
            no contradiction between index and files.

    Returns:
        The report, consistent or not.

    Raises:
        CheckpointError: The folder or file cannot be read as a checkpoint; lists every reason.
        TypeError: `source` is none of these.
    """
    if isinstance(source, str | Path):
        return _inspect_path(Path(source), config, index_only=index_only)
    if (found := _source_of(source)) is not None:
        config = getattr(source, "config", None) if config is None else config
        path = getattr(found, "path", None)
        if path is not None and Path(path).exists():
            return _inspect_path(Path(path), config, index_only=index_only)
        return _report("the checkpoint", found.get_all_keys(), {}, _declaration(config))
    if (
        isinstance(source, Mapping)
        and source
        and all(isinstance(value, TensorHeader) for value in source.values())
    ):
        return _report("the checkpoint", source, source, _declaration(config))
    if _is_config(source):
        return _report("the config", (), {}, Declaration.of(source), declared_only=True)
    if isinstance(source, Iterable):
        return _report("the checkpoint", source, {}, _declaration(config))
    raise TypeError(f"{type(source).__name__} is no path, keys, hf_pretrained or config")


def _inspect_path(path: Path, config: object, *, index_only: bool) -> LayoutReport:
    declaration = Declaration.read(path) if config is None and path.is_dir() else _declaration(config)
    if index_only and (path / INDEX_NAME).exists():
        check_inside(path, INDEX_NAME)
        return _report(str(path), read_index(path / INDEX_NAME).weight_map, {}, declaration)
    checkpoint = read_checkpoint(path)
    report = _report(str(path), checkpoint.tensors, checkpoint.tensors, declaration)
    stated = checkpoint.index and checkpoint.index.total_size
    if stated is not None and stated != checkpoint.total_size:
        problem = f"the index says {stated} bytes of tensors, there are {checkpoint.total_size}"
        report = replace(report, problems=(*report.problems, problem))
    return report


def _source_of(candidate: Any) -> Any:
    """Find Megatron-Bridge's state source in what is or holds one."""
    for found in (
        candidate,
        getattr(candidate, "source", None),
        getattr(getattr(candidate, "state", None), "source", None),
    ):
        if callable(getattr(found, "get_all_keys", None)):
            return found
    return None


def _is_config(candidate: object) -> bool:
    if isinstance(candidate, Mapping):
        return "model_type" in candidate
    return hasattr(candidate, "model_type")


def _declaration(config: object) -> Declaration | None:
    return None if config is None else Declaration.of(config)


def _report(
    checkpoint: str,
    keys: Iterable[str],
    tensors: Tensors,
    declaration: Declaration | None,
    *,
    declared_only: bool = False,
) -> LayoutReport:
    found = ExpertKeys.of(keys)
    layouts: dict[Block, dict[int, ExpertLayout]] = {block: {} for block in Block}
    layouts[Block.MTP] = dict.fromkeys(sorted(found.mtp_layers), ExpertLayout.ABSENT)
    for layer in sorted(found.layers):
        layouts[layer.block][layer.number] = found.layers[layer].layout
    wrong = () if declared_only else problems(found, tensors, declaration)
    float32 = (name for name, tensor in tensors.items() if tensor.dtype == "F32")
    return LayoutReport(
        checkpoint=checkpoint,
        decoder=layouts[Block.DECODER],
        mtp=layouts[Block.MTP],
        num_experts=_num_experts(found, tensors),
        mtp_layers_declared=None if declaration is None else declaration.mtp_layers,
        dtypes=dict(Counter(tensor.dtype for tensor in tensors.values())),
        float32=dict(Counter(_LAYER.sub("", name) for name in float32)),
        problems=tuple(wrong),
    )


def _num_experts(found: ExpertKeys, tensors: Tensors) -> int | None:
    """Return the number of experts in a layer: the largest that any layer has."""
    numbers = [len(experts.single) for experts in found.layers.values() if experts.single]
    for experts in found.layers.values():
        for name in experts.packed:
            tensor = tensors.get(experts.prefix + name)
            if tensor and tensor.shape:
                numbers.append(tensor.shape[0])
    return max(numbers, default=None)
