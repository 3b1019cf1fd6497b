"""A repository's commit, asked for by its name: huggingface_hub finds it, and the bridge carries it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import scan_cache_dir, snapshot_download

from mtp_fixtures import CheckpointSpec, preset, write_revision
from mtp_regression.stages.case import ONE_LAYOUT

Job = Callable[..., tuple[int, dict[str, Any]]]

MAIN = CheckpointSpec(preset("qwen3.5-35b-a3b"), seed=1)
PINNED = CheckpointSpec(preset("qwen3.6-35b-a3b"))
ADAPTER = "mtp_regression.adapters.variants:{}PinnedRevision"


@pytest.fixture(scope="module")
def commits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of two commits of one repository; the branch `main` points at the first."""
    cache = tmp_path_factory.mktemp("hub")
    main = write_revision(MAIN, cache, repo="org/name", revision="main")
    return main, write_revision(PINNED, cache, repo="org/name")


def test_mtp_cache_is_one_of_huggingface_hub(commits: tuple[Path, Path]) -> None:
    main, pinned = commits
    cache = main.parents[2]
    for revision, folder in (("main", main), (None, main), (main.name, main), (pinned.name, pinned)):
        found = snapshot_download("org/name", revision=revision, cache_dir=cache, local_files_only=True)
        assert Path(found) == folder
    scanned = scan_cache_dir(cache)
    assert not scanned.warnings
    (repo,) = scanned.repos
    assert {commit.commit_hash: set(commit.refs) for commit in repo.revisions} == {
        main.name: {"main"},
        pinned.name: set(),
    }
    assert {file.file_name for commit in repo.revisions for file in commit.files} == {
        file.name for folder in commits for file in folder.iterdir()
    }


@pytest.mark.megatron
def test_patched_bridge_is_exact_in_all_stages(commits: tuple[Path, Path], main_job: Job) -> None:
    adapter = ADAPTER.format("Patched")
    exit_code, report = main_job(commits[1], "--parallel", "tp1", "--adapter", adapter)
    assert {record["stage"]: record["verdict"] for record in report["records"]} == dict.fromkeys(
        ONE_LAYOUT, "exact"
    )
    assert exit_code == 0


@pytest.mark.megatron
def test_folder_that_is_no_commit_is_an_error(main_job: Job, qwen36_checkpoint: Path) -> None:
    options = ("--parallel", "tp1", "--stage", "native", "--adapter", ADAPTER.format(""))
    exit_code, report = main_job(qwen36_checkpoint, *options)
    assert exit_code == 1
    (record,) = report["records"]
    assert "is no commit: `mtpkit generate --hub-cache` makes one" in record["crash"]["message"]
