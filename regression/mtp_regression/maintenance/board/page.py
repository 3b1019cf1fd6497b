"""The page of bridges, from what is known of each release.

python -m mtp_regression.maintenance board-page > docs/board.md
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mtp_regression import adapters
from mtp_regression.conformance.subjects import subjects
from mtp_regression.maintenance.board.table import KNOWN, Row
from mtp_regression.maintenance.cases.table import KNOWN as CASES
from mtp_regression.maintenance.known import RELEASES, UPSTREAM, known_of_one
from mtp_regression.roundtrip.declared import read_declared

_HEAD = """# Board

What bridges do with every checkpoint of `mtpkit conformance`, as they are on the package index. `nox -s
conformance` runs each in an environment of its own, and fails if a cell of any layout is another than here.

A cell names the stages that are not exact, and the verdicts of their tensors ([report.md](report.md)). Where
layouts differ, it is that of most of them, and the others follow. **refused**: a broken checkpoint is refused
with an error that names what is wrong; **loaded**: it is loaded without one. "-": the bridge is not used so.
Columns of Megatron-Bridge are of [cases.md](cases.md): native, stream, saved.

vllm and sglang are readers: they write no checkpoint, and `stream` is what they hold after they have loaded
one, the whole model and MTP. So they show what is read of a folder that a bridge has saved with `--keep`:

    mtpkit roundtrip reports/kept/packed/tp1/saved --adapter vllm

MTP in the other layout is `exact`, for both read both. Of a folder without MTP that declares it vLLM says
that weights were not initialized; SGLang says nothing, and holds MTP that nothing has filled, `unexpected`.
The sessions conformance-vllm-0.32.0 and conformance-sglang-0.5.23 make environments of 8 and 10 GB. Models
are built on a CPU, by wheels for CUDA, and compute nothing: vLLM's has no `torch.ops._C.cpu_fused_moe`, and
SGLang's kernels ask for `libcuda.so.1`.
"""


def page() -> str:
    """Return the page as Markdown."""
    known: dict[str, dict[str, Row]] = {
        file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(KNOWN.glob("*.json"))
    }
    cases: dict[str, dict[str, Any]] = {release: known_of_one(CASES, release) for release in RELEASES}
    columns = [*known, *(f"megatron-bridge-{release}" for release in RELEASES)]
    lines = [_HEAD, f"| checkpoint | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for subject in subjects():
        cells = [_cell(rows.get(subject.name, {})) for rows in known.values()]
        cells += [_of_cases(cases[release].get(subject.about)) for release in RELEASES]
        if any(cell != "-" for cell in cells[: len(known)]):
            lines.append(f"| {subject.name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_reasons()])


def _cell(row: Row) -> str:
    """Return what most layouts have, and which have something else."""
    if not row:
        return "-"
    usual = Counter(row.values()).most_common(1)[0][0]
    others = [f"{layout}: {cell}".replace("|", "\\|") for layout, cell in row.items() if cell != usual]
    return "; ".join([usual, *others])


def _of_cases(row: Any) -> str:
    return str(row[UPSTREAM]["outcome"]) if row else "-"


def _reasons() -> Iterator[str]:
    """Yield what the adapters declare, and why."""
    folder = Path(adapters.__file__).parent
    for file in sorted(folder.rglob("*.toml")):
        if file.stem == "megatron_bridge":
            continue
        yield f"## Declared of {file.stem.replace('_', '-')}"
        yield ""
        for entry in read_declared(file):
            releases = "" if "*" in entry.releases else f", {', '.join(entry.releases)}"
            what = f" {entry.verdict}" if entry.verdict else ""
            of = f" of `{entry.tensor}`" if entry.tensor else ""
            yield f"- `{' '.join(entry.checks)}`{releases}:{what}{of}. {entry.reason}".replace(":.", ":")
        yield ""
