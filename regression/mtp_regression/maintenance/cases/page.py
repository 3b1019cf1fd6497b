"""The page of the table of scenarios, from what is known of each release.

python -m mtp_regression.maintenance cases-page > docs/cases.md
"""

from __future__ import annotations

from collections.abc import Iterator

from mtp_regression.maintenance.cases.table import KNOWN
from mtp_regression.maintenance.known import OTHERS, PATCHED, RELEASES, UPSTREAM, known_of_all
from mtp_regression.scenarios.table import SCENARIOS

Known = dict[str, dict[str, dict[str, dict[str, str]]]]
"""Of each release: scenario, column, and "outcome" and "cause"."""

_HEAD = """# What each release carries

`nox -s cases` takes these checkpoints through Megatron-Bridge and back, as it is and with `mtp_bridge_patch`
applied, and fails if any outcome is another than this page's
(`regression/mtp_regression/maintenance/cases/known/`): also where a release has become better. MoE is the
tiny Qwen3.5 or 3.6 35B-A3B on tp2 ep2, dense is 27B on tp2, tied embeddings are 0.8B. A row "parallel" names
its layout, a row "layer types" its decoder layers, L linear and F full; they are of 3.6 35B-A3B if they name
no model.

"Findings" are those of [findings.md](findings.md): what upstream does wrong, in which releases, and why.
A cell is the verdict of the [round trip](report.md) (native / stream / saved, once if all three agree). "6
declared" is Qwen3.5's F32 pair, which comes back in BF16. "refused" is the patch's own error, before anything
is loaded, which lists all that is wrong; it is what a broken checkpoint should get.
"""


def page() -> str:
    """Return the page as Markdown."""
    known: Known = known_of_all(KNOWN)
    lines = [_HEAD, *_table(known), "", *_others(known), "", "## Why", "", *_causes(known)]
    return "\n".join(lines) + "\n"


def _table(known: Known) -> Iterator[str]:
    heads = [f"{release} {column}" for release in RELEASES for column in (UPSTREAM, PATCHED)]
    yield f"| scenario | findings | {' | '.join(heads)} |"
    yield "|---" * (len(heads) + 2) + "|"
    for scenario in SCENARIOS:
        cells = [
            known[release][scenario.name][column]["outcome"]
            for release in RELEASES
            for column in (UPSTREAM, PATCHED)
        ]
        findings = ", ".join(map(str, scenario.findings))
        name = scenario.name.replace("|", r"\|")
        yield f"| {name} | {findings} | {' | '.join(cells)} |"


def _others(known: Known) -> Iterator[str]:
    """Say in what other releases differ from those of the table."""
    yield "`nox -s cases-RELEASE` does the same with other releases:\n"
    for release, like in OTHERS.items():
        different = [
            f"{name}, {column}: {cell['outcome']}"
            for name, row in known[release].items()
            for column, cell in row.items()
            if cell["outcome"] != known[like][name][column]["outcome"]
        ]
        yield f"- {release} is as {like}" + (f", but for: {'; '.join(different)}" if different else "")


def _causes(known: Known) -> Iterator[str]:
    """List why an unpatched release fails, the same cause once."""
    yield "What was seen where upstream is not exact."
    for release in RELEASES:
        yield f"\n### {release}\n"
        causes: dict[str, list[str]] = {}
        for scenario in SCENARIOS:
            cell = known[release][scenario.name][UPSTREAM]
            if cell["outcome"].partition(",")[0] != "exact" and cell["cause"]:
                causes.setdefault(cell["cause"], []).append(scenario.name)
        for cause, names in causes.items():
            yield f"- {'; '.join(names)}: `{cause.replace('`', '')}`"
