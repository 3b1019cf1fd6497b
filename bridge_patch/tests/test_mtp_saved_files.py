"""A saved folder gets the checkpoint's own files, unless they may have been changed; none is lost."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from mtp_bridge_patch.fixes.saving.saved_files import FIX
from mtp_bridge_patch.upstream.hooks import Save

SOURCE = {"tokenizer.json": "source", "merges.txt": "source", "preprocessor_config.json": "source"}
WRITTEN = {
    "tokenizer.json": "written",
    "preprocessor_config.json": "written",
    "processor_config.json": "written",
}


def save(
    source: Path, target: Path, loaded: Mapping[str, object], original: str | None = None
) -> dict[str, str]:
    names = {"ARTIFACTS": ["tokenizer"], "OPTIONAL_ARTIFACTS": ["processor", "image_processor"]}
    pretrained = SimpleNamespace(model_name_or_path=str(source), **names, **loaded)

    def proceed() -> None:
        vars(pretrained).setdefault("_tokenizer", object())  # as upstream loads it to save it
        for name, text in WRITTEN.items():
            (target / name).write_text(text)

    assert FIX.save_artifacts is not None
    arguments = {"save_directory": str(target), "original_source_path": original}
    FIX.save_artifacts(Save(pretrained, pretrained, arguments), proceed)
    assert hasattr(pretrained, "_tokenizer") == ("_tokenizer" in loaded)  # the next save is like this one
    return {path.name: path.read_text() for path in target.iterdir()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name, text in SOURCE.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("loaded", "saved"),
    [
        ({}, SOURCE),
        ({"_tokenizer": object()}, SOURCE | {"tokenizer.json": "written"}),
        ({"_processor": object()}, SOURCE | WRITTEN | {"tokenizer.json": "source"}),
        ({"_image_processor": object()}, SOURCE | WRITTEN | {"tokenizer.json": "source"}),
    ],
)
def test_what_may_have_changed_is_as_it_was_written(
    loaded: dict[str, object], saved: dict[str, str], source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    expected = {
        name: text for name, text in saved.items() if "_tokenizer" not in loaded or name != "merges.txt"
    }
    assert save(source, target, loaded) == expected


def test_saving_over_the_checkpoint_loses_no_file(source: Path) -> None:
    assert save(source, source, {}) == SOURCE | WRITTEN


HUB = {"revision": "abc", "cache_dir": "/cache", "attn_implementation": "eager"}


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        (None, {"revision": "abc", "cache_dir": "/cache"}),
        ("org/name", {"revision": "abc", "cache_dir": "/cache"}),
        ("org/other", {}),
    ],
)
def test_files_of_a_hub_name_are_of_its_revision(
    original: str | None,
    expected: dict[str, str],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, dict[str, object]]] = []

    def snapshot(repo: str, patterns: list[str], **options: object) -> Path:
        assert {"tokenizer*", "merges.txt", "*processor_config.json"} <= set(patterns)
        asked.append((repo, options))
        return source

    monkeypatch.setattr("mtp_bridge_patch.fixes.saving.saved_files.snapshot", snapshot)
    target = tmp_path / "target"
    target.mkdir()
    saved = save(Path("org/name"), target, {"init_kwargs": HUB}, original)
    assert (saved, asked) == (SOURCE, [(original or "org/name", expected)])


def test_files_that_the_hub_does_not_give_are_as_written_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def snapshot(*_args: object, **_options: object) -> Path:
        raise OSError("offline")

    monkeypatch.setattr("mtp_bridge_patch.fixes.saving.saved_files.snapshot", snapshot)
    target = tmp_path / "target"
    target.mkdir()
    assert save(Path("org/name"), target, {"init_kwargs": HUB}) == WRITTEN
    assert caplog.messages == [
        "Tokenizer and processors are as transformers writes them, not org/name's own: offline"
    ]
