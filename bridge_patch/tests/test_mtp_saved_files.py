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


def save(source: Path, target: Path, loaded: Mapping[str, object]) -> dict[str, str]:
    names = {"ARTIFACTS": ["tokenizer"], "OPTIONAL_ARTIFACTS": ["processor", "image_processor"]}
    pretrained = SimpleNamespace(model_name_or_path=str(source), **names, **loaded)

    def proceed() -> None:
        for name, text in WRITTEN.items():
            (target / name).write_text(text)

    assert FIX.save_artifacts is not None
    FIX.save_artifacts(Save(pretrained, pretrained, {"save_directory": str(target)}), proceed)
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
