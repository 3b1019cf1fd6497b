"""The page of a finding, and the index of all of them, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mtp_bridge_patch.releases import ENVIRONMENTS
from mtp_regression.findings.finding import MEGATRON_BRIDGE, Finding
from mtp_regression.scenarios.table import SCENARIOS

_CHECKPOINTS = {
    "q36/": "mtpkit generate qwen3.6-35b-a3b q36/",
    "q35/": "mtpkit generate qwen3.5-35b-a3b q35/",
    "two/": "mtpkit generate qwen3.6-35b-a3b two/ --mtp-layers 2",
    "nomtp/": "mtpkit generate qwen3.6-35b-a3b nomtp/ --mtp-layers 0",
    "single/": "mtpkit generate qwen3.6-35b-a3b single/ --decoder-experts per-expert",
    "fp8/": "mtpkit generate qwen3.6-35b-a3b-fp8 fp8/",
    "tied/": "mtpkit generate qwen3.5-0.8b tied/",
    "$V": "V=mtp_regression.adapters.variants",
    "$R": "R=text_config.rope_parameters",
}
"""What a command that names such a folder, or a variable, wants before it."""
_MOST_ROWS = 4
_INDEX = """# Findings

What Megatron-Bridge does with Qwen3.5 and Qwen3.6 checkpoints that it should not, newest release first, and
what other bridges do: a page each, ready to be sent upstream, with the command that shows it, the cause, a
script that needs nothing of the kit, and a patch. `mtpkit finding 3` prints the page of finding 3.

Each was seen on a CPU with the kit's tiny checkpoints and the stand-in for TransformerEngine, and is a red
cell of [cases.md](cases.md), which `nox -s cases` runs again, or is shown by the test or page that it names.
`nox -s findings`, and `nox -s conformance` for other bridges, run every script, which must fail where it is
said to, nowhere else, and not with the patch applied to a copy of the release's source;
`python -m mtp_regression.on_cpu` gives it the stand-in where there is no GPU. "Run" in a column means that
this was done; where it is "no", the page says why.
"""
_SECTIONS = {
    ("0.4.2", "0.5.1", "0.6.2"): "0.6.x and before",
    ("0.5.1", "0.6.2"): "0.5.x and 0.6.x",
    ("0.6.2",): "0.6.x alone",
    ("0.4.2", "0.5.1"): "0.5.x and before",
    ("0.5.1",): "0.5.x alone",
    ("0.4.2",): "0.4.x",
}


def page(finding: Finding) -> str:
    """Return the page of a finding."""
    return "\n".join(_page(finding)) + "\n"


def index(findings: Sequence[Finding]) -> str:
    """Return the index of findings, by releases."""
    return "\n".join(_index(findings)) + "\n"


def _page(finding: Finding) -> Iterator[str]:
    yield f"# {finding.number}. {finding.title}\n"
    yield f"- Seen with: {finding.bridge} {', '.join(_all(finding))}"
    if finding.bridge == MEGATRON_BRIDGE:
        without = sorted({*ENVIRONMENTS} - {*_all(finding)})
        yield f"- Not with: {', '.join(without) or 'none that was looked at'}"
    yield f"- Shown by: {_shown_by(finding)}"
    yield f"- Upstream: {_one_line(finding.upstream) or 'not looked for'}"
    wanted = [line for name, line in _CHECKPOINTS.items() if name in finding.commands]
    yield from ("\n## Command\n", _code("sh", "\n".join((*wanted, finding.commands))))
    if finding.note:
        yield f"\n{finding.note.strip()}"
    yield f"\n## Seen\n\n{finding.seen.strip()}"
    if finding.cause:
        yield f"\n## Cause\n\n{finding.cause.strip()}"
    if "`conversion/" in finding.cause or "`qwen" in finding.cause or "`hf_pretrained/" in finding.cause:
        yield "\nPaths that do not begin with `megatron/` are of `megatron/bridge/models/`."
    yield "\n## Smallest reproduction\n"
    if finding.reproduction:
        torchrun = f"torchrun --standalone --nproc-per-node {finding.ranks} reproduction.py"
        on_cpu = f"python -m mtp_regression.on_cpu --ranks {finding.ranks} reproduction.py"
        yield f"`{torchrun}`, or without a GPU `{on_cpu}`:\n"
        yield _code("python", finding.reproduction)
        yield f"\nIts output ends so on {finding.patched_release}:\n"
        yield _code("text", finding.output)
    else:
        yield f"No reproduction: {finding.no_reproduction}"
    yield "\n## Proposed fix\n"
    if finding.proposed:
        yield f"{finding.proposed.strip()}\n"
    if finding.patch:
        which = f" and that of finding {finding.patch_of}" if finding.patch_of else ""
        yield f"Against {finding.patched_release}{which}; with it, the reproduction ends well:\n"
        yield _code("diff", finding.patch)
    else:
        yield f"No patch: {finding.no_patch}"


def _all(finding: Finding) -> list[str]:
    """Name all releases that have a finding: of Megatron-Bridge those, too, that others stand for."""
    if finding.bridge != MEGATRON_BRIDGE:
        return [*finding.releases]
    return sorted(release for release, like in ENVIRONMENTS.items() if like in finding.releases)


def _shown_by(finding: Finding) -> str:
    if finding.shown_by:
        return f"`{finding.shown_by}`"
    rows = [scenario.name for scenario in SCENARIOS if finding.number in scenario.findings]
    more = f"; and {len(rows) - _MOST_ROWS} more" if len(rows) > _MOST_ROWS else ""
    return f"[cases.md](../cases.md): {'; '.join(rows[:_MOST_ROWS])}{more}"


def _code(language: str, text: str) -> str:
    return f"```{language}\n{text.strip()}\n```"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _index(findings: Sequence[Finding]) -> Iterator[str]:
    yield _INDEX
    ours = [finding for finding in findings if finding.bridge == MEGATRON_BRIDGE]
    by_releases = {key: [one for one in ours if tuple(one.releases) == key] for key in _SECTIONS}
    sections = [(name, by_releases[key]) for key, name in _SECTIONS.items()]
    others = [finding for finding in findings if finding.bridge != MEGATRON_BRIDGE]
    for name, found in (*sections, ("Other bridges", others)):
        if not found:
            continue
        yield f"## {name}\n"
        if found is others:
            yield "Seen on a CPU by `nox -s conformance`, and shown by [board.md](board.md).\n"
        yield "| finding | script | patch | upstream |\n|---|---|---|---|"
        for one in found:
            link = f"[{one.number}. {one.title}](findings/{one.folder.name}.md)"
            done = ("run" if text else "no" for text in (one.reproduction, one.patch))
            yield " | ".join((f"| {link}", *done, f"{_one_line(one.upstream)} |"))
        yield ""
