"""What happened, why and what to do: each cause where the findings show it, and nowhere else."""

from dataclasses import replace
from typing import Any

import pytest

from mtp_regression.comparison.verdicts import Finding, Verdict
from mtp_regression.ranks.devices import Device
from mtp_regression.reporting.document import report_of
from mtp_regression.reporting.explanations import KNOWN, PATCH
from mtp_regression.reporting.record import Crash, Record
from mtp_regression.reporting.reproduction import reproduce, smallest
from mtp_regression.reporting.terminal import verdict
from mtp_regression.stages.case import Stage

from .test_terminal import EXACT

UPSTREAM = replace(EXACT, bridge="megatron-bridge 0.4.2", checkpoint="q36")
EXPERTS = "mtp.layers.0.mlp.experts"
POISONED = Finding(
    f"{EXPERTS}.linear_fc1.weight0", Verdict.POISONED, "8 of 8 elements are NaN", rank=0, chunk=0
)
ASKED = f"WARNING: Can't find {EXPERTS}.0.down_proj.weight in hf_keys"
MADE = {"given": "q36", "made": "mtpkit generate qwen3.6-35b-a3b q36", "mtp_experts": "packed"}
AGAIN = "look at the smallest failing check alone: mtpkit roundtrip q36"


def lines(*records: Record, command: str = "mtpkit roundtrip q36", **about: str) -> list[str]:
    report = report_of(
        records,
        device=Device.CPU,
        import_seconds=0,
        seconds=1,
        command=command,
        checkpoints={"q36": MADE | about},
    )
    return verdict(records, report)


def failed(finding: Finding, record: Record = UPSTREAM, **fields: Any) -> Record:
    return replace(record, **{"verdict": finding.verdict, "tensors": [finding], **fields})


def crashed(message: str, record: Record = UPSTREAM, **fields: Any) -> Record:
    text = 'rank 0 raised\n\n  File "/x/site-packages/mapping.py", line 12, in convert\n    raise'
    why = Crash(Stage.STREAM, 0, "raised", "builtins.ValueError", message, refused=False, text=text)
    return replace(record, **{"verdict": why.verdict, "crash": why, **fields})


def test_packed_mtp_experts_under_a_release_that_looks_for_single_ones() -> None:
    native = failed(POISONED, warnings=[ASKED])
    records = [native, crashed("Unknown parallelism type: None", stage=Stage.STREAM, warnings=[ASKED])]
    assert lines(*records) == [
        "what happened: 1 parameter of MTP's experts was never loaded, and is NaN; in q36 in tp1: native",
        "why: the checkpoint has MTP's experts packed, and the bridge looked for them one by one",
        f"what to do: {PATCH}",
    ]
    other = lines(*(replace(record, bridge="other 1.0") for record in records))
    assert other[1].endswith("looked for them one by one")
    assert other[2] == f"what to do: {AGAIN} --parallel tp1 --stage native"
    missing = crashed(f"KeyError: '{EXPERTS}.0.gate_proj.weight'")
    assert lines(missing)[1].endswith("packed, and the bridge looked for them one by one")
    asked = [f"no {EXPERTS}.gate_up_proj"]
    assert lines(failed(POISONED, warnings=asked), mtp_experts="per-expert")[1].endswith(
        "the checkpoint has MTP's experts one by one, and the bridge looked for them packed"
    )


@pytest.mark.parametrize(
    ("record", "about"),
    [
        (failed(POISONED), {}),
        (failed(POISONED, warnings=[ASKED]), {"mtp_experts": "per-expert"}),
        (failed(POISONED, warnings=[ASKED]), {"mtp_experts": ""}),
        (failed(replace(POISONED, tensor="decoder.layers.0.mlp.router"), warnings=[ASKED]), {}),
        (failed(replace(POISONED, verdict=Verdict.WRONG), warnings=[ASKED]), {}),
        (crashed("Unknown parallelism type: None", warnings=[ASKED]), {}),
    ],
)
def test_the_layout_is_blamed_only_where_findings_warnings_and_checkpoint_show_it(
    record: Record, about: dict[str, str]
) -> None:
    assert not any("looked for" in line for line in lines(record, **about))
    assert not any("--patched" in line for line in lines(record, **about))


def test_a_parameter_that_has_no_mapping() -> None:
    said = "'NoneType' object has no attribute 'megatron_module'"
    assert lines(crashed(said))[2] == f"what to do: {PATCH}"
    for bridge in ("megatron-bridge 0.6.2+patch", "megatron-bridge 0.9.0", "other 1.0"):
        assert lines(crashed(said, replace(UPSTREAM, bridge=bridge)))[1:] == [
            "why: raised in convert, mapping.py line 12",
            f"what to do: {AGAIN} --parallel tp1 --stage native",
        ]


def test_parameters_of_other_names() -> None:
    lost, extra = (
        Finding("decoder.x", Verdict.MISSING, rank=0),
        Finding("trunk.x", Verdict.UNEXPECTED, rank=0),
    )
    told = lines(failed(lost, tensors=[lost, extra]))
    assert "other names than Megatron-Core" in told[1]
    assert "`renamed = {...}`" in told[2]
    assert "renamed" not in lines(failed(lost))[-1]


def test_a_broken_checkpoint_that_was_loaded() -> None:
    loaded = Finding("the checkpoint", Verdict.WRONG, "was loaded: mtp.fc.weight")
    told = lines(failed(loaded, stage=Stage.REFUSED))
    assert "require_consistent()" in told[2]
    assert "require_consistent()" not in lines(failed(loaded))[-1]


def test_experts_in_the_other_layout() -> None:
    there = Finding(f"{EXPERTS}.gate_up_proj", Verdict.FLIP, "written in the other layout, values exact")
    instead = Finding(f"{EXPERTS}.0.up_proj.weight", Verdict.FLIP, "the source has these experts ...")
    record = failed(there, tensors=[there, instead], stage=Stage.STREAM)
    assert lines(record)[1].endswith(
        "the values are right; the export has another layout than the checkpoint"
    )
    reloaded = replace(record, stage=Stage.RELOADED)
    assert lines(reloaded)[1].endswith("than the checkpoint that was loaded last")


def test_another_dtype() -> None:
    told = lines(
        failed(Finding("A_log", Verdict.DTYPE, "BF16 instead of F32, equal values"), stage=Stage.STREAM)
    )
    assert told[1].endswith("the model's dtype, not the checkpoint's")
    assert told[2] == f"what to do: {PATCH}"


@pytest.mark.parametrize(
    ("stage", "others", "why"),
    [
        (Stage.NATIVE, (Stage.STREAM, Stage.SAVED), "import and export make the same mistake"),
        (Stage.RETRAINED, (Stage.STREAM,), "something comes from the checkpoint's files"),
        (Stage.RELOADED, (Stage.STREAM,), "something stays in the bridge or the model"),
        (Stage.FORWARD, (Stage.NATIVE,), "all weights are right"),
    ],
)
def test_one_stage_alone(stage: Stage, others: tuple[Stage, ...], why: str) -> None:
    bad = failed(Finding("x", Verdict.WRONG, "5 differ"), stage=stage)
    good = [replace(UPSTREAM, stage=other) for other in others]
    assert why in lines(bad, *good)[1]
    assert not any(why in line for line in lines(bad))
    also = replace(bad, stage=Stage.SAVED)
    assert not any(
        why in line for line in lines(bad, also, *(one for one in good if one.stage != Stage.SAVED))
    )


def test_what_is_not_known_has_the_origin_or_nothing() -> None:
    wrong = Finding("x", Verdict.WRONG, "5 differ")
    assert [line.partition(":")[0] for line in lines(failed(wrong))] == ["what happened", "what to do"]
    told = lines(failed(replace(wrong, origin="transposed")))
    assert told[1] == "why: transposed"
    assert lines(UPSTREAM) == []


def test_every_cause_is_tested() -> None:
    assert len(KNOWN) == 7, "a test for each, above"


def test_the_smallest_failure_is_on_the_fewest_ranks_and_of_the_first_stage() -> None:
    wrong = failed(Finding("x", Verdict.WRONG))
    later = replace(wrong, stage=Stage.SAVED)
    assert smallest([replace(wrong, ranks=2), later, wrong, UPSTREAM]) is wrong
    assert smallest([UPSTREAM]) is None


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("mtpkit roundtrip q36 other", ["mtpkit roundtrip q36"]),
        ("mtpkit roundtrip q36 --patched", ["mtpkit roundtrip q36 --patched"]),
        (
            "mtpkit roundtrip --adapter my:Bridge --device cuda",
            ["mtpkit roundtrip q36 --adapter my:Bridge --device cuda"],
        ),
    ],
)
def test_reproduction_of_a_round_trip(command: str, expected: list[str]) -> None:
    report = {"command": command, "checkpoints": {"q36": MADE}}
    record = replace(UPSTREAM, parallel="tp2 ep2", stage=Stage.STREAM)
    [last] = expected
    assert reproduce(record, report) == [MADE["made"], f"{last} --parallel 'tp2 ep2' --stage stream"]


def test_reproduction_of_a_check_of_a_script_and_of_a_preset() -> None:
    report: dict[str, Any] = {"command": "mtpkit conformance my:Bridge --only '*'", "checkpoints": {}}
    record = replace(UPSTREAM, check="packed-tp1::native")
    assert reproduce(record, report) == ["mtpkit conformance my:Bridge --only packed-tp1::native"]
    assert reproduce(record, report | {"command": ""}) == []
    report = {
        "command": "mtpkit roundtrip --preset q36",
        "checkpoints": {"q36": {"given": "--preset q36 --scale real"}},
    }
    assert reproduce(record, report) == [
        "mtpkit roundtrip --preset q36 --scale real --parallel tp1 --stage native"
    ]
