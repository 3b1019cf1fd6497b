"""Findings: their pages, what they are shown by, their scripts and their patches."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mtp_bridge_patch.releases import ENVIRONMENTS
from mtp_regression.commands.app import app
from mtp_regression.findings.finding import MEGATRON_BRIDGE, Finding, read_findings
from mtp_regression.findings.page import index, page
from mtp_regression.maintenance.cases.table import KNOWN
from mtp_regression.maintenance.findings import run
from mtp_regression.maintenance.findings.run import apply, check, package_of, shorten
from mtp_regression.maintenance.known import RELEASES, UPSTREAM
from mtp_regression.scenarios.table import SCENARIOS

ROOT = Path(__file__).parents[2]
FINDINGS = read_findings()
OURS = [finding for finding in FINDINGS if finding.bridge == MEGATRON_BRIDGE]
every = pytest.mark.parametrize("finding", FINDINGS, ids=lambda finding: finding.folder.name)


def test_numbers_are_unique_and_without_gaps() -> None:
    assert [finding.number for finding in FINDINGS] == list(range(1, len(FINDINGS) + 1))


def test_pages_are_what_is_kept_of_each() -> None:
    pages = {file.name: file.read_text(encoding="utf-8") for file in (ROOT / "docs" / "findings").iterdir()}
    assert pages == {f"{finding.folder.name}.md": page(finding) for finding in FINDINGS}
    assert (ROOT / "docs" / "findings.md").read_text(encoding="utf-8") == index(FINDINGS)


@every
def test_command_prints_the_page(finding: Finding) -> None:
    assert CliRunner().invoke(app, ["finding", str(finding.number)]).stdout == page(finding)


def test_unknown_number_is_an_error_with_the_list() -> None:
    result = CliRunner().invoke(app, ["finding", "0"])
    assert result.exit_code == 2
    assert all(finding.title in " ".join(result.output.split()) for finding in FINDINGS)


def test_without_a_number_all_are_listed() -> None:
    result = CliRunner().invoke(app, ["finding"])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [f"{finding.number:3} {finding.title}" for finding in FINDINGS]


@every
def test_folder_begins_with_the_number_and_has_what_the_page_says(finding: Finding) -> None:
    assert finding.folder.name.startswith(f"{finding.number:02}-")
    assert bool(finding.reproduction) != bool(finding.no_reproduction)
    assert bool(finding.patch) != bool(finding.no_patch)
    assert bool(finding.reproduction) == bool(finding.fails_with) == bool(finding.output)
    assert finding.reproduction or not finding.patch, "a patch that nothing runs"
    assert finding.fails_with in finding.output


@every
def test_script_is_python_that_needs_nothing_of_the_kit(finding: Finding) -> None:
    compile(finding.reproduction, "reproduction.py", "exec")
    assert not re.search(r"import mtp_|from (mtp_|tiny)", finding.reproduction)


@every
def test_finding_is_shown_by_a_row_or_by_a_file(finding: Finding) -> None:
    rows = [scenario for scenario in SCENARIOS if finding.number in scenario.findings]
    if finding.shown_by:
        assert (ROOT / finding.shown_by).is_file()
    else:
        assert rows


@pytest.mark.parametrize("release", RELEASES)
def test_rows_of_one_finding_alone_are_red_where_it_is_and_nowhere_else(release: str) -> None:
    known = json.loads((KNOWN / f"{release}.json").read_text(encoding="utf-8"))
    releases = {finding.number: finding.releases for finding in OURS}
    for scenario in SCENARIOS:
        if len(scenario.findings) == 1:
            exact = known[scenario.name][UPSTREAM]["outcome"] == "exact"
            assert exact != (release in releases[scenario.findings[0]]), scenario.name


def test_releases_are_those_that_pages_compare() -> None:
    for finding in OURS:
        assert finding.releases
        assert finding.releases == [release for release in RELEASES if release in finding.releases]
        assert finding.patched_release in ENVIRONMENTS


def test_script_fails_on_the_release_and_with_the_patch_it_does_not() -> None:
    finding = FINDINGS[3]
    release = metadata.version("megatron-bridge")
    assert release == finding.patched_release
    command = [sys.executable, "-m", "mtp_regression.maintenance", "findings", str(finding.number)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{finding.number}: fails on {release}\n" in done.stdout
    assert f"{finding.number}, patched: exit code 0\n" in done.stdout


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fails_with": "another error"}, "4: exit code 1, where 'another error' is expected"),
        ({"releases": ("0.4.2",)}, "4: exit code 1, where another end is expected"),
        ({}, "4, patched: exit code 1: "),
    ],
)
def test_another_end_is_told(changes: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = FINDINGS[3]
    monkeypatch.setattr(run, "reproduce", lambda *_args, **_options: (1, finding.fails_with))
    assert told in "".join(check(replace(finding, **changes), "0.6.2"))


def test_patch_of_other_source_does_not_apply(tmp_path: Path) -> None:
    said = apply(FINDINGS[3].patch.replace("isinstance", "isinstant"), tmp_path / "source")
    assert "patch does not apply" in said


def test_patch_is_of_the_bridge() -> None:
    packages = {(finding.bridge, package_of(finding.patch)) for finding in FINDINGS if finding.patch}
    assert packages == {
        (MEGATRON_BRIDGE, "megatron.bridge"),
        ("mcore-bridge", "mcore_bridge"),
        ("NeMo Automodel", "nemo_automodel"),
    }


@pytest.mark.parametrize(
    ("there", "bridge"),
    [
        ({"transformers": "5.3.0"}, ("transformers", "5.3.0")),
        ({"transformers": "5.12.1", "mcore-bridge": "1.6.5"}, ("mcore-bridge", "1.6.5")),
        ({"transformers": "5.18.0", "nemo-automodel": "0.7.0"}, ("NeMo Automodel", "0.7.0")),
        ({"transformers": "5.3.0", "megatron-bridge": "0.4.2"}, ("Megatron-Bridge", "0.4.2")),
        ({}, ("no bridge", "")),
    ],
)
def test_bridge_of_an_environment(
    there: dict[str, str], bridge: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name not in there:
            raise metadata.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(metadata, "version", version)
    assert run.installed() == bridge


@pytest.mark.parametrize("release", ["5.24.0", "5.3.0"])
def test_finding_of_another_bridge_is_of_the_releases_that_it_names(
    release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = FINDINGS[47]
    assert finding.releases == ["5.3.0"]
    monkeypatch.setattr(run, "reproduce", lambda *_args, **_options: (1, finding.fails_with))
    assert bool([*check(finding, release)]) == (release == "5.24.0")


def test_findings_of_what_is_not_installed_are_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([FINDINGS[47]], update=False) == 2
    assert "a finding of what is installed here: Megatron-Bridge" in capsys.readouterr().out


def test_failure_of_another_rank_is_in_the_output() -> None:
    text = "rank 0 waits\non_cpu: rank 2 of 3 raised\n\nTraceback\nIndexError: here\n\nlogs:\n  rank 0: x"
    assert shorten(text).splitlines()[-2:] == ["Traceback", "IndexError: here"]


def test_output_is_shortened_to_its_end_and_says_so() -> None:
    frame = '  File "/x/mtp_regression/on_cpu.py", line 1, in run\n    run_as_main()\n'
    bar = "Loading: 100%|████| 4/4 [00:00<00:00, 31.0it/s]\n"
    text = "".join(f"line {number}\n" for number in range(19)) + frame + bar
    lines = shorten(f"{text}WARNING: noise\nTraceback\n\non_cpu: rank 0\n\nTraceback").splitlines()
    assert lines == ["[... 8 lines]", *(f"line {number}" for number in range(8, 19)), "Traceback"]
