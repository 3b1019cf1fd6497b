"""Compares what a checkpoint has beside its weights: configuration, tokenizer, processors, chat template.

JSON is compared field by field, as it is parsed; other files byte by byte. A field's name is the file's and
its own, "config.json: text_config.rms_norm_eps".
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mtp_checkpoint.files.index import INDEX_NAME, SUFFIX
from mtp_checkpoint.files.untrusted import parse_object, read_json
from mtp_checkpoint.inspection.declaration import CONFIG_NAME
from mtp_fixtures.writing.manifest import MANIFEST_NAME
from mtp_regression.comparison.verdicts import Finding, Verdict

MAY_ADD = {
    "text_config.bos_token_id": None,
    "text_config.pad_token_id": None,
    "text_config.output_router_logits": False,
    "text_config.partial_rotary_factor": 0.25,
    "text_config.tie_word_embeddings": False,
    # Since 5.17; what the vision tower's positions have always been. Older releases read it with a warning.
    "vision_config.rope_parameters": {"rope_theta": 10000.0, "rope_type": "axial"},
}
"""Fields of `config.json` that transformers writes, with its own defaults, where the checkpoint has none.
A text-only model has those of `text_config`, and no sections."""

MAY_CHANGE = {
    "config.json: transformers_version": "the release of transformers that wrote it",
    "generation_config.json: transformers_version": "the same",
    "config.json: dtype": "transformers writes the weights' dtype into every section",
    "config.json: *.dtype": "the same",
    "config.json: vision_config.model_type": "transformers 5 has a name of its own for the vision tower's "
    "configuration, and reads both",
}
"""Fields that whoever writes a folder may set as it likes, and why."""

_NOT_BESIDE = (f"*{SUFFIX}", INDEX_NAME, MANIFEST_NAME)
_ABSENT = object()
_TEXT = "text_config"


def side_files(folder: Path) -> set[str]:
    """Name the files of a checkpoint that hold no weights, nor where they are."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    return {name for name in names if not any(fnmatchcase(name, pattern) for pattern in _NOT_BESIDE)}


def compare_side_files(
    source: Path, saved: Path, config: Mapping[str, Any], *, same: Collection[str] = ()
) -> list[Finding]:
    """Compare all such files of two checkpoints.

    Args:
        source: The checkpoint's folder.
        saved: The folder that a bridge has saved.
        config: What `config.json` should be.
        same: Files that are known to be equal, and are not read.

    Returns:
        MISSING for a file or a field that is lost, UNEXPECTED for one that is new, WRONG for one with another
        content, in order of names, but for the fields of `MAY_ADD` and `MAY_CHANGE`.
    """
    expected, actual = side_files(source), side_files(saved)
    findings = [Finding(name, Verdict.MISSING, "the file is lost") for name in expected - actual]
    findings += [
        Finding(name, Verdict.UNEXPECTED, "the source has no such file") for name in actual - expected
    ]
    for name in (expected & actual) - {*same}:
        if name.endswith(".json"):
            fields, problems = parse_object(read_json(saved / name), str(saved / name), strict=True)
            findings += [Finding(name, Verdict.WRONG, problem) for problem in problems]
            original = config if name == CONFIG_NAME else parse_object(read_json(source / name), "")[0]
            findings += _compare_fields(name, original, fields)
        elif (source / name).read_bytes() != (saved / name).read_bytes():
            findings.append(Finding(name, Verdict.WRONG, "another content"))
    return sorted(findings, key=lambda finding: finding.tensor)


def _fields(file: str, content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a file; those of `config.json`'s sections, such as `text_config`, one by one."""
    for name, value in content.items():
        if file == CONFIG_NAME and name.endswith("_config") and isinstance(value, dict):
            yield from ((f"{name}.{below}", field) for below, field in value.items())
        else:
            yield name, value


def _compare_fields(file: str, source: Mapping[str, Any], saved: Mapping[str, Any]) -> Iterator[Finding]:
    expected, actual = dict(_fields(file, source)), dict(_fields(file, saved))
    section = "" if _TEXT in source else f"{_TEXT}."
    may_add = {f"{CONFIG_NAME}: {name.removeprefix(section)}": value for name, value in MAY_ADD.items()}
    for field in expected.keys() | actual.keys():
        name = f"{file}: {field}"
        if any(fnmatchcase(name, pattern) for pattern in MAY_CHANGE):
            continue
        want, have = expected.get(field, _ABSENT), actual.get(field, _ABSENT)
        if have is _ABSENT:
            yield Finding(name, Verdict.MISSING, f"was {_brief(want)}")
        elif want is _ABSENT and have != may_add.get(name, _ABSENT):
            yield Finding(name, Verdict.UNEXPECTED, f"is {_brief(have)}")
        elif want is not _ABSENT and (type(want), want) != (type(have), have):
            yield Finding(name, Verdict.WRONG, f"{_brief(have)} instead of {_brief(want)}")


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


_SHOWN = 80
"""Characters of a value that are shown."""
