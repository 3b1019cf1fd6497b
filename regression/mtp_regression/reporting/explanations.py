"""What happened, why, and what to do: known causes, told where the findings of a run show them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mtp_bridge_patch.releases import ENVIRONMENTS
from mtp_regression.comparison.verdicts import Verdict
from mtp_regression.reporting.folding.fold import Folded
from mtp_regression.reporting.folding.pairs import OTHER_LAYOUT, OTHER_NAMES
from mtp_regression.reporting.record import Record
from mtp_regression.reporting.reproduction import reproduce, smallest
from mtp_regression.stages.case import Stage

PATCH = "run it with --patched; in a script, `import mtp_bridge_patch; mtp_bridge_patch.apply()` first"


@dataclass(frozen=True)
class Explanation:
    """Three lines above all that a run prints.

    Attributes:
        happened: What happened, in a sentence.
        why: Why, as far as the findings show it.
        todo: What to do.
    """

    happened: str
    why: str
    todo: str

    @property
    def lines(self) -> list[str]:
        """The lines as they are printed."""
        told = {"what happened": self.happened, "why": self.why, "what to do": self.todo}
        return [f"{name}: {text}" for name, text in told.items() if text]


@dataclass(frozen=True)
class Facts:
    """What is known of a run that failed.

    Attributes:
        folded: Its findings, the gravest and widest first; there is one.
        records: All its records.
        report: The report that has them.
    """

    folded: Sequence[Folded]
    records: Sequence[Record]
    report: Mapping[str, Any]

    @cached_property
    def unpatched(self) -> bool:
        """Whether it is Megatron-Bridge, of a release that the patch was checked on, and without it."""
        name, _, release = self.records[0].bridge.partition(" ")
        return name == "megatron-bridge" and release in ENVIRONMENTS

    @cached_property
    def only_stages(self) -> set[str]:
        """The stages that failed."""
        return {record.stage for record in self.records if not record.passed}

    @cached_property
    def again(self) -> str:
        """The command that shows the smallest failure."""
        record = smallest(self.records)
        commands = reproduce(record, self.report) if record else []
        if record and record.checkpoint in self.report.get("command", "").split():
            commands = commands[-1:]  # the folder is there
        return f"look at the smallest failing check alone: {' && '.join(commands)}" if commands else ""

    def mtp_experts(self, record: Record) -> str:
        """How a record's checkpoint stores its MTP experts; empty if that is not known."""
        return str(self.report.get("checkpoints", {}).get(record.checkpoint, {}).get("mtp_experts", ""))


def explain(facts: Facts) -> Explanation:
    """Say what happened, why, and what to do: of the first cause of `KNOWN` that the findings show.

    Where they show none, it is the gravest and widest finding, with what the findings say of its origin.
    """
    known = (found for cause in KNOWN for folded in facts.folded for found in cause(folded, facts))
    return next(known, None) or _unknown(facts)


def _unknown(facts: Facts) -> Explanation:
    folded = facts.folded[0]
    origins = {found.origin for found in folded.findings}
    why = ""
    if len(origins) == 1:
        why = next(iter(origins))
    elif told := next((found for found in folded.findings if found.origin), None):
        why = f"{told.tensor} {told.origin}, for example"
    elif folded.crash and (frames := _FRAME.findall(folded.crash.text)):
        file, line, function = frames[-1]
        why = f"raised in {function}, {file.rpartition('/')[2]} line {line}"
    return Explanation(_happened(folded), why, facts.again)


def _happened(folded: Folded, said: str = "") -> str:
    return f"{said or folded}; in {folded.places}"


_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_MTP_EXPERT = re.compile(r"(?:^|\.)mtp\.layers\.\d+\.(?:\w+\.)*experts\.")
_ASKED = {
    "packed": re.compile(r"\bmtp\.layers\.\d+\.mlp\.experts\.\d+\.\w+_proj\.weight"),
    "per-expert": re.compile(r"\bmtp\.layers\.\d+\.mlp\.experts\.(?:gate_up|down)_proj\b"),
}
"""By the layout that a checkpoint has: the keys of the other one."""
_LAYOUTS = {"packed": ("packed", "one by one"), "per-expert": ("one by one", "packed")}


def _other_mtp_layout(folded: Folded, facts: Facts) -> Iterator[Explanation]:
    """MTP experts that were not loaded, by a bridge that says it has looked for the other layout's keys."""
    never_loaded = folded.verdict is Verdict.POISONED and all(map(_MTP_EXPERT.search, folded.tensors))
    if not (never_loaded or folded.crash):
        return
    for record in folded.seen:
        layout = facts.mtp_experts(record)
        said = [folded.crash.message] if folded.crash else record.warnings
        if layout in _ASKED and any(map(_ASKED[layout].search, said)):
            has, asked = _LAYOUTS[layout]
            count = len(folded.tensors)
            parameters = f"{count} parameters" if count > 1 else "1 parameter"
            never = "were never loaded, and are" if count > 1 else "was never loaded, and is"
            what = f"{parameters} of MTP's experts {never} NaN"
            why = f"the checkpoint has MTP's experts {has}, and the bridge looked for them {asked}"
            yield Explanation(
                _happened(folded, "" if folded.crash else what),
                why,
                PATCH if facts.unpatched else facts.again,
            )
            return


def _no_mapping(folded: Folded, facts: Facts) -> Iterator[Explanation]:
    """Megatron-Bridge before its patch, with experts held one by one (`moe_grouped_gemm=False`)."""
    if folded.crash and facts.unpatched and "attribute 'megatron_module'" in folded.crash.message:
        why = "the bridge has no mapping for a parameter of this model, and goes on to its conversion"
        yield Explanation(_happened(folded), why, PATCH)


def _other_dtype(folded: Folded, facts: Facts) -> Iterator[Explanation]:
    if folded.verdict is Verdict.DTYPE and folded is facts.folded[0]:
        why = "what is exported has the model's dtype, not the checkpoint's"
        yield Explanation(_happened(folded), why, PATCH if facts.unpatched else facts.again)


def _layout_of_the_first(folded: Folded, facts: Facts) -> Iterator[Explanation]:
    if folded.said == OTHER_LAYOUT and folded is facts.folded[0]:
        why = "the values are right; the export has another layout than the checkpoint"
        if {record.stage for record in folded.seen} == {Stage.RELOADED}:
            why += " that was loaded last"
        yield Explanation(_happened(folded), why, facts.again)


def _other_names(folded: Folded, facts: Facts) -> Iterator[Explanation]:
    del facts
    if folded.said == OTHER_NAMES and {record.stage for record in folded.seen} == {Stage.NATIVE}:
        why = "the model's parameters have other names than Megatron-Core gives them"
        todo = "say in the adapter what they are called, `renamed = {...}`: docs/your-bridge.md, Names"
        yield Explanation(_happened(folded), why, todo)


def _not_refused(folded: Folded, facts: Facts) -> Iterator[Explanation]:
    if facts.only_stages == {Stage.REFUSED} and not folded.crash:
        why = "the bridge does not look at the whole checkpoint before it loads"
        todo = "call mtp_checkpoint.inspect(checkpoint).require_consistent() first: docs/your-bridge.md"
        yield Explanation(_happened(folded), why, todo)


_ALONE = {
    Stage.NATIVE: "import and export make the same mistake: the round trip is exact, and the model is wrong",
    Stage.RETRAINED: "the export is not what the model holds: something comes from the checkpoint's files",
    Stage.RELOADED: "of the checkpoint that was loaded before, something stays in the bridge or the model",
    Stage.FORWARD: "all weights are right: the model is configured otherwise, or computes otherwise",
}
"""What it means if one stage fails, and every other passes that would see a wrong weight."""


def _one_stage(folded: Folded, facts: Facts) -> Iterator[Explanation]:
    [*stages] = facts.only_stages
    others = {record.stage for record in facts.records} - facts.only_stages
    if len(stages) == 1 and folded is facts.folded[0] and not folded.crash and stages[0] in _ALONE:
        needed = {Stage.NATIVE} if stages[0] == Stage.FORWARD else {Stage.STREAM, Stage.SAVED}
        if needed & others:
            yield Explanation(_happened(folded), _ALONE[Stage(stages[0])], facts.again)


KNOWN: Sequence[Callable[[Folded, Facts], Iterator[Explanation]]] = (
    _other_mtp_layout,
    _no_mapping,
    _other_names,
    _not_refused,
    _layout_of_the_first,
    _other_dtype,
    _one_stage,
)
"""Known causes, the most specific first; each yields an explanation if the findings show it."""
