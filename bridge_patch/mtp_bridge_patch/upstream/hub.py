"""Where the files of a checkpoint are that is known by its name on the Hugging Face hub."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_OPTIONS = ("revision", "cache_dir", "token", "local_files_only")
"""What upstream hands to transformers for config and tokenizer, and the hub's own reader takes as well."""


def hub_options(arguments: Any) -> dict[str, Any]:
    """Return what tells, beside its name, which checkpoint is meant: the revision, and where to look for it.

    Args:
        arguments: Those of upstream's `from_pretrained`, by name; anything else has none.
    """
    if not isinstance(arguments, Mapping):
        return {}
    return {name: arguments[name] for name in _OPTIONS if arguments.get(name) is not None}


def snapshot(repo: str, patterns: Sequence[str], **options: Any) -> Path:
    """Return the folder of one commit of a repository, with the files that there are of some.

    Files that are not in the cache are downloaded, unless huggingface_hub is offline.

    Args:
        repo: Name of the repository.
        patterns: Names of files, with wildcards.
        options: As of `hub_options`.

    Raises:
        FileNotFoundError: Commit or repository are not in the cache, and cannot be downloaded.
        ValueError: There is no such name of a repository.
    """
    from huggingface_hub import constants, snapshot_download  # which only names of the hub need

    if constants.HF_HUB_OFFLINE:
        options["local_files_only"] = True  # 1.33 asks the hub for the files of a commit, offline too
    try:
        return Path(snapshot_download(repo, allow_patterns=list(patterns), **options))
    except OSError as error:
        revision = options.get("revision", "main")
        raise FileNotFoundError(f"no files of {repo} at revision {revision!r}: {error}") from error
