"""What the suite says of every mistake of an in-memory bridge: which sentences, in which stages."""

from pathlib import Path

import pytest

from mtp_fixtures.plugin import MakeCheckpoint
from mtp_regression.comparison.verdicts import Verdict
from mtp_regression.mutants import bridges
from mtp_regression.stages.case import Stage

from .in_memory_stages import CONVERTED, found

Q36, DENSE, TIED, NEXT = "qwen3.6-35b-a3b", "qwen3.6-27b", "qwen3.5-0.8b", "qwen3-next-80b-a3b"
FP8 = "qwen3.6-35b-a3b-fp8"
NATIVE, STREAM, SAVED, RETRAINED = Stage.NATIVE, Stage.STREAM, Stage.SAVED, Stage.RETRAINED
RELOADED, RESHARDED = Stage.RELOADED, Stage.RESHARDED

NOT_RELOADED = "from the checkpoint before: never loaded anew"
PASSED = "as in the checkpoint that was loaded, whatever the model holds"
EXCHANGED, REVERSED = {"gate and up exchanged"}, {"rows reversed"}
GATE_UP_TOGETHER = {
    NATIVE: {"gate, up cut as one, not one by one"},
    RETRAINED: {"cut from rows in the order gate, up by shard of 2 ranks"},
}
GATE_AND_UP = {
    f"is {layer}.mlp.{name}_proj.weight"
    for layer in ("mtp.layers.0", *(f"model.language_model.layers.{number}" for number in range(4)))
    for name in ("gate", "up")
}
IN_MTP = {f"is mtp.layers.0.mlp.{name}_proj.weight" for name in ("gate", "up")}

IDEAS = {
    ("heads-in-turn", TIED, "tp1"): {
        NATIVE: {"rows in the order query, output gate by head, then key, then value"},
        RETRAINED: {"cut from rows in the order query, output gate, key, value by query group"},
    },
    ("heads-in-turn", TIED, "tp2"): {
        NATIVE: {"rows in the order query, output gate by head, then key, then value"},
        RETRAINED: {"cut from rows in the order query, output gate, key, value by query group"},
    },
    ("gdn-norm-as-it-is", TIED, "tp1"): {
        NATIVE: {"1 was not subtracted"},
        RETRAINED: {"1 was subtracted"},
    },
    ("gdn-cut-together", TIED, "tp2"): {
        NATIVE: {"query, key, value, z, beta, alpha cut as one, not one by one"},
        RETRAINED: {"cut from rows in the order query, key, value, z, beta, alpha by key head"},
    },
    ("convolution-cut-together", TIED, "tp2"): {
        NATIVE: {"query, key, value cut as one, not one by one"},
        RETRAINED: {"rows in the order query, key, value by key head"},
    },
    ("decays-reversed", TIED, "tp1"): {NATIVE: REVERSED, RETRAINED: {PASSED}},
    ("fused-gdn-in-turn", NEXT, "tp1"): {
        NATIVE: {"rows in the order query, key, value, z by key head, then beta, alpha by key head"},
        RETRAINED: {
            "rows in the order query, then key, then value, then z",
            "rows in the order beta, then alpha",
        },
    },
    ("gate-up-exchanged", TIED, "tp1"): {NATIVE: EXCHANGED, RETRAINED: GATE_AND_UP},
    ("gate-up-cut-together", TIED, "tp2"): GATE_UP_TOGETHER,
    ("expert-gate-up-exchanged", Q36, "tp1"): {NATIVE: EXCHANGED, RETRAINED: EXCHANGED},
    ("shared-expert-cut-together", Q36, "tp2"): GATE_UP_TOGETHER,
    ("router-reversed", Q36, "tp1"): {NATIVE: REVERSED, RETRAINED: REVERSED},
    ("vision-heads-in-turn", TIED, "tp1"): {
        NATIVE: {"rows in the order query, then key, then value"},
        RETRAINED: {"rows in the order query, key, value by head"},
    },
    ("vision-bias-whole", TIED, "tp2"): {NATIVE: {"whole, not cut for 2 tp ranks"}, RETRAINED: {PASSED}},
    ("vocabulary-reversed", DENSE, "tp1"): {NATIVE: REVERSED, RETRAINED: REVERSED},
    ("mtp-norms-exchanged", TIED, "tp1"): {
        NATIVE: {"is mtp.layers.0.hnorm.weight", "is mtp.layers.0.enorm.weight"},
        RETRAINED: {"is mtp.pre_fc_norm_hidden.weight", "is mtp.pre_fc_norm_embedding.weight"},
    },
    ("mtp-fc-cut-by-columns", TIED, "tp2"): {
        NATIVE: {"cut along the wrong axis: columns, not rows"},
        RETRAINED: {PASSED},
    },
    ("experts-in-turn", Q36, "ep2"): {
        NATIVE: {
            f"is expert {theirs}'s, not expert {own}'s"
            for own, theirs in ((1, 2), (2, 4), (3, 6), (4, 1), (5, 3), (6, 5))
        },
        RETRAINED: {"experts permuted: holds 0, 4, 1, 5, 2, 6, 3, 7"},
    },
    ("packed-up-first", Q36, "tp1"): {NATIVE: EXCHANGED, RETRAINED: EXCHANGED},
    ("final-norm-on-the-last-stage", TIED, "pp3 Ett|ttm|L"): {NATIVE: set(), RETRAINED: {PASSED}},
}
SABOTEURS = {
    ("exports-gate-under-ups-key", TIED, "tp1"): dict.fromkeys((STREAM, SAVED, RETRAINED, RELOADED), IN_MTP),
    ("copies-not-loaded", TIED, "tp2"): {NATIVE: {"NaN: never loaded"}},
    ("mtp-passed-through", TIED, "tp2"): {RETRAINED: {PASSED}},
    ("norms-of-the-first-checkpoint", TIED, "tp2"): {
        RELOADED: {"from the checkpoint before: never loaded anew"}
    },
    ("resharded-experts-swapped", Q36, "tp1 to ep2"): {
        RESHARDED: {
            *(
                f"is expert {theirs}'s, not expert {own}'s"
                for own, theirs in ((0, 1), (1, 0), (4, 5), (5, 4))
            ),
            "experts permuted: holds 1, 0, 2, 3, 5, 4, 6, 7",
        }
    },
    ("mtp-projection-unknown", TIED, "tp1"): {},
    ("one-rank-in-another-order", TIED, "tp2"): {},
    ("saves-and-forgets", TIED, "tp2"): {SAVED: {"all zero"}},
    ("tokenizer-lost", TIED, "tp2"): {},
    ("layout-of-the-first-checkpoint", Q36, "tp1"): {},
}
MISTAKES = {
    ("ReversesRows", TIED, "tp1"): dict.fromkeys((STREAM, RETRAINED, RELOADED), REVERSED),
    ("YieldsTwice", TIED, "pp2"): {},
    ("OtherNames", Q36, "tp1"): {RETRAINED: {PASSED}},
}
ROWS = [
    pytest.param(f"{module}:{saboteur}", model, layout, told, id=f"{saboteur}-{layout.replace(' ', '-')}")
    for module, table in ((bridges.__name__, IDEAS | SABOTEURS), ("in_memory_mistakes", MISTAKES))
    for (saboteur, model, layout), told in table.items()
]
ASKED = {Verdict.WRONG, Verdict.POISONED}


@pytest.mark.parametrize(("adapter", "model", "layout", "told"), ROWS)
def test_what_is_said(
    adapter: str,
    model: str,
    layout: str,
    told: dict[Stage, set[str]],
    make_checkpoint: MakeCheckpoint,
    tmp_path: Path,
) -> None:
    """Every wrong tensor has a sentence, one of those; a file, a name and an order have none."""
    stages = (*CONVERTED, RETRAINED, RELOADED, RESHARDED)
    findings = found(make_checkpoint(model), layout, tmp_path, adapter=adapter, stages=stages)
    said = {stage: {finding.origin for finding in some} - {""} for stage, some in findings.items()}
    assert {stage: some for stage, some in said.items() if some} == {
        stage: some for stage, some in told.items() if some
    }
    unsaid = [
        str(finding)
        for some in findings.values()
        for finding in some
        if finding.verdict in ASKED and not finding.origin
    ]
    assert unsaid == []


@pytest.mark.parametrize(
    ("saboteur", "model", "layout", "sentences"),
    [
        ("fp8-scales-ignored", FP8, "tp2", {"scales not applied"}),
        ("fp8-scales-twice", FP8, "tp2", {"scales applied twice"}),
        (
            "experts-local-numbers",
            Q36,
            "ep2",
            {f"is expert {own}'s, not expert {own + 4}'s (the number on the rank)" for own in range(4)},
        ),
    ],
)
def test_a_load(
    saboteur: str,
    model: str,
    layout: str,
    sentences: set[str],
    make_checkpoint: MakeCheckpoint,
    tmp_path: Path,
) -> None:
    adapter = f"{bridges.__name__}:{saboteur}"
    findings = found(make_checkpoint(model), layout, tmp_path, adapter=adapter, stages=(NATIVE,))
    assert {finding.origin for finding in findings[NATIVE]} == sentences
