"""Fix ``saved-files``: a saved folder has the checkpoint's own tokenizer and processors, in readable files.

Upstream loads tokenizer, processor and generation config with transformers and has them written anew.
transformers 5 takes a tokenizer whose class is named ``Qwen2Tokenizer``, as the published ones are, for one
of Qwen2: the ``tokenizer.json`` that it writes splits text at combining marks, and the checkpoint's does not.
``vocab.json``, ``merges.txt`` and ``video_preprocessor_config.json`` are gone, and other files have more or
fewer fields. Here the checkpoint's own files are copied, unless somebody has loaded, and so may have changed,
what is in them.

Shards have no ``format`` in their metadata, which older releases of transformers ask for, and can be read by
nobody else (mode 0600, safetensors 0.8).
"""

import functools
import importlib
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mtp_bridge_patch.fix import Fix
from mtp_bridge_patch.upstream.hooks import Save
from mtp_bridge_patch.upstream.hub import hub_options, snapshot
from mtp_bridge_patch.upstream.replacing import replaced

_FILES = {
    "tokenizer": (
        *("tokenizer*", "vocab.*", "merges.txt", "added_tokens.json", "special_tokens_map.json"),
        "chat_template*",
    ),
    "processor image_processor": ("*processor_config.json",),
    "generation_config": ("generation_config.json",),
}
"""The files that hold nothing but some of what upstream calls artifacts."""
_logger = logging.getLogger(__name__)


def _save_artifacts(call: Save, proceed: Callable[[], Any]) -> Any:
    """Put the checkpoint's own files in the place of those that are written anew."""
    pretrained = call.pretrained
    before = dict(vars(pretrained))
    result = proceed()
    for artifact in (*pretrained.ARTIFACTS, *pretrained.OPTIONAL_ARTIFACTS):
        if f"_{artifact}" not in before:  # saving has loaded it; the next save is to find it as this one did
            vars(pretrained).pop(f"_{artifact}", None)
    folder = _folder(pretrained, call.arguments.get("original_source_path"))
    if folder is None:
        return result
    for artifacts, patterns in _FILES.items():
        if not any(_may_have_changed(before.get(f"_{artifact}"), folder) for artifact in artifacts.split()):
            _copy(folder, Path(call.arguments["save_directory"]), patterns)
    return result


def _folder(pretrained: Any, original: Any) -> Path | None:
    """Return where the checkpoint's own files are; None if nobody can tell."""
    name = getattr(pretrained, "model_name_or_path", None)
    source = original or name
    if source is None or Path(source).is_dir():
        return source and Path(source)
    options = hub_options(pretrained.init_kwargs) if str(source) == str(name) else {}
    try:
        return snapshot(
            str(source), [pattern for patterns in _FILES.values() for pattern in patterns], **options
        )
    except (OSError, ValueError) as error:
        _logger.warning(
            "Tokenizer and processors are as transformers writes them, not %s's own: %s", source, error
        )
        return None


def _may_have_changed(artifact: Any, folder: Path) -> bool:
    """Whether what somebody has loaded may be other than the checkpoint's.

    Upstream itself loads the generation config, to make its provider, and leaves a field of its own in it.
    """
    if artifact is None:
        return False
    if not hasattr(artifact, "to_diff_dict"):
        return True
    now, then = artifact.to_diff_dict(), type(artifact).from_pretrained(folder).to_diff_dict()
    return any(now.get(name) != then.get(name) for name in (now.keys() | then.keys()) - {"trust_remote_code"})


def _copy(folder: Path, target: Path, patterns: Sequence[str]) -> None:
    if folder.samefile(target):  # there is nothing else to copy from
        return
    for written in _matching(target, patterns):
        written.unlink()
    for file in _matching(folder, patterns):
        shutil.copyfile(file, target / file.name)


def _matching(folder: Path, patterns: Sequence[str]) -> set[Path]:
    return {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}


def _save(_call: Save, proceed: Callable[[], Any]) -> Any:
    """Save shards that say that they hold torch's tensors, with the mode of any other file."""
    safetensors = importlib.import_module("safetensors.torch")
    upstream = safetensors.save_file

    @functools.wraps(upstream)
    def save_file(tensors: Any, filename: Any, metadata: Any = None) -> None:
        upstream(tensors, filename, metadata={"format": "pt"} | (metadata or {}))
        mask = os.umask(0)
        os.umask(mask)
        Path(filename).chmod(0o666 & ~mask)

    with replaced(safetensors, "save_file", save_file):
        return proceed()


FIX = Fix(
    id="saved-files",
    failure="A saved folder has another tokenizer, lacks files, and only its owner can read its shards.",
    fixed_since=None,
    save=_save,
    save_artifacts=_save_artifacts,
)
