"""Fix ``saved-index``: the index of a saved folder names all tensors that were saved, and their size.

Before 0.6.0 it tells the total size of the checkpoint that was loaded, whatever was saved. With
``distributed_save=True``, 0.5.x and 0.6.x make it of the files that rank 0 finds in its folder: if every rank
saves into a folder of its own, on a disk of its own, it lacks what the others saved, also when the files are
together again. A checkpoint of one file is saved without an index: in a folder with those of an earlier save,
whose index would then be read.
"""

import json
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.hooks import Save
from mtp_checkpoint.files.headers import read_header
from mtp_checkpoint.files.index import INDEX_NAME, SUFFIX

_logger = logging.getLogger(__name__)


class _File(NamedTuple):
    size: int
    keys: Collection[str]


def _save_weights(call: Save, proceed: Callable[[], Any]) -> Any:
    """Save, then complete the index; every rank calls it."""
    import torch.distributed as dist

    index = Path(call.arguments["path"], INDEX_NAME)
    earlier = _time(index)
    result = proceed()
    source: Any = getattr(getattr(call.pretrained, "state", None), "source", None)
    file_of = getattr(source, "key_to_filename_map", {})
    folder = index.parent
    is_writer = not dist.is_initialized() or dist.get_rank() == 0
    saved = _saved(folder, file_of) if is_writer else {}
    if saved:
        _leave_out_earlier(index, saved, is_new=_time(index) != earlier)
    has_index = is_writer and index.exists()
    here = frozenset(saved)
    if dist.is_initialized() and call.arguments.get("distributed_save", False):
        lacks = [has_index and not here.issuperset(file_of.values())]
        dist.broadcast_object_list(lacks, src=0)
        if lacks[0]:
            others: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(others, _saved(folder, file_of))
            for other in others:
                saved = other | saved
    if has_index:
        _complete(index, file_of, saved, here)
    return result


def _time(file: Path) -> int | None:
    """Return when a file was written, in nanoseconds; None if it is not there."""
    return file.stat().st_mtime_ns if file.exists() else None


def _leave_out_earlier(index: Path, saved: Mapping[str, _File], *, is_new: bool) -> None:
    """Tell of shards of an earlier save and, if no index was written, write one that does not name them."""
    others = sorted({path.name for path in index.parent.glob(f"*{SUFFIX}")} - saved.keys())
    if others:
        _logger.warning("%s has shards of an earlier save: %s. No index names them.", index.parent, others)
    if not is_new and (others or index.exists()):
        named = {key: file for file in sorted(saved) for key in saved[file].keys}
        _write(
            index,
            {"metadata": {"total_size": sum(file.size for file in saved.values())}, "weight_map": named},
        )


def _write(index: Path, content: Any) -> None:
    written = index.with_suffix(".written")  # other ranks may read the index by now
    written.write_text(json.dumps(content, indent=4), encoding="utf-8")
    written.replace(index)


def _saved(folder: Path, file_of: Mapping[str, str]) -> dict[str, _File]:
    """Tell which of a checkpoint's files a folder has, and what is in them."""
    headers = {file: read_header(folder / file) for file in set(file_of.values()) if (folder / file).exists()}
    return {file: _File(header.data_size, list(header.tensors)) for file, header in headers.items()}


def _complete(
    index: Path, file_of: Mapping[str, str], saved: Mapping[str, _File], here: Collection[str]
) -> None:
    """Name in an index what other ranks saved, and the size of all.

    Args:
        index: The index's file.
        file_of: The file of each tensor that was to be saved.
        saved: The files that all ranks saved.
        here: Those in the folder of the index.
    """
    content = json.loads(index.read_text(encoding="utf-8"))
    named = content["weight_map"]
    elsewhere = sorted(saved.keys() - here)
    found = {key: file for file in elsewhere for key in saved[file].keys if file_of.get(key) == file}
    files = {*named.values(), *found.values()}
    size = sum(saved[file].size for file in files if file in saved)
    if not found and content["metadata"].get("total_size", size) == size:
        return
    if found:
        _logger.warning(
            "The ranks have saved into different folders: %s names %d files that are in those of other ranks "
            "(%s...). Put them together before they are read.",
            index,
            len(elsewhere),
            elsewhere[0],
        )
    content["weight_map"], content["metadata"]["total_size"] = named | found, size
    _write(index, content)


FIX = Fix(
    id="saved-index",
    failure="A saved index has another size, lacks what ranks save apart, or is that of an earlier save.",
    fixed_since=None,
    save_weights=_save_weights,
)
