"""The rows of the table that `nox -s cases` makes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from mtp_fixtures import CheckpointSpec, ExpertLayout, Scale, Sharding, preset
from mtp_regression.ranks.parallel import Parallel, read_layout
from mtp_regression.scenarios.scenario import Scenario, Use
from mtp_regression.stages.case import ONE_LAYOUT, Stage

_TP2, _TP2_EP2, _TP4 = Parallel(tp=2), Parallel(tp=2, ep=2), Parallel(tp=4)
_RESHARDED = (Stage.RESHARDED,)
_EP2_TO_TP2, _TP4_TO_TP2 = read_layout("ep2 to tp2"), read_layout("tp4 to tp2")
_Q35, _Q36, _Q27, _Q08 = "qwen3.5-35b-a3b", "qwen3.6-35b-a3b", "qwen3.6-27b", "qwen3.5-0.8b"
_SINGLE = {"decoder_experts": ExpertLayout.PER_EXPERT}
_TEXT = {"text_only": True}
_SHARED_SHARD = {"sharding": Sharding.MTP_WITH_LM_HEAD}
_APART = {"sharding": Sharding.MTP_APART}
_FOLDER = (Stage.NATIVE, Stage.STREAM, Stage.SAVED, Stage.FILES)
_mtp_off = partial(Scenario, use=Use.WITHOUT_MTP, stages=_FOLDER)
_pinned = partial(Scenario, use=Use.PINNED, stages=_FOLDER)
_TWO, _NO_MTP = {"mtp_layers": 2}, {"mtp_layers": 0}
_WIDE = {"scale": Scale.WIDE}
_COMPUTED = (Stage.NATIVE, Stage.STREAM, Stage.SAVED, Stage.FORWARD)


def _types(letters: str) -> dict[str, str]:
    return {"layer_types": letters}


def _changed(*changes: str) -> dict[str, tuple[str, ...]]:
    return {"config_changes": changes}


def _rope(kind: str, *, section: str = "text_config.", **parameters: float) -> dict[str, tuple[str, ...]]:
    """Scale the rotary embedding of a model of 32 positions."""
    changes = {"rope_type": kind, "original_max_position_embeddings": 32, **parameters}
    path = f"{section}rope_parameters."
    return _changed(*(f"{path}{name}={value}" for name, value in changes.items()))


_YARN, _YARN_TEXT = _rope("yarn", factor=4), _rope("yarn", section="", factor=4)
_TIED = _changed("tie_word_embeddings=true", "text_config.tie_word_embeddings=true")
_LLAMA3 = _rope("llama3", factor=8, low_freq_factor=1, high_freq_factor=4)


def _pp3(layout: str) -> Parallel:
    return Parallel(pp=3, layout=layout)


_NO_LAYERS = (17, 19)
PIPELINES = {
    Parallel(pp=2, layout="Et|tttmL"): (17,),
    Parallel(pp=3, layout="Ett|tt|mL"): _NO_LAYERS,
    Parallel(pp=2, layout="E|ttttmL"): _NO_LAYERS,
    Parallel(pp=3, layout="Ett|ttm|L"): _NO_LAYERS,
    Parallel(pp=2, layout="E|tt|tt|mL"): _NO_LAYERS,
    Parallel(pp=2, first=1): (17,),
    Parallel(pp=2, last=1): (17,),
    Parallel(pp=3, embedding=True, loss=True): (17,),
    Parallel(pp=4): (17,),
}
"""Pipelines of the tiny models' four layers and one MTP layer, with the findings that packed MTP shows."""

RESHARDINGS = {
    read_layout(text): findings
    for text, findings in {
        "ep2 to tp2": (17,),
        "tp2 etp2 to ep2": (17,),
        "pp2 vpp2 to tp2": (17,),
        "pp2 to ep2": (17,),
        "ep4 to tp2": (17,),
        "tp1 to ep4": (17,),
        "tp2 ep2 to tp1": (17,),
        "pp2 Et|tttmL to pp2": (17, 26),
        "pp2 Et|tttmL to pp4": (17, 26),
        "pp2 Et|tttmL to tp1": (17,),
        "tp1 to pp3 Ett|tt|mL": (17, 19),
    }.items()
}
"""Pairs of layouts, from each axis to another, to more ranks and to fewer, with packed MTP's findings."""


SCENARIOS = (
    Scenario("MoE, MTP per expert", _Q35, (9,)),
    Scenario("MoE, MTP packed", _Q36, (17,)),
    Scenario("MoE, decoder per expert, MTP packed", _Q36, (13,), _SINGLE),
    Scenario("MoE, decoder and MTP per expert", _Q35, (9, 13), _SINGLE),
    Scenario("MoE, no MTP", _Q36, (), _NO_MTP),
    Scenario("MoE, 2 MTP layers per expert", _Q35, (2, 10), _TWO),
    Scenario("MoE, 2 MTP layers packed", _Q36, (2, 10), _TWO),
    Scenario("dense", _Q27, (), parallel=_TP2),
    Scenario("dense, 2 MTP layers", _Q27, (2, 10), _TWO, parallel=_TP2),
    Scenario("dense, tied embeddings", _Q08, (9, 14), parallel=_TP2),
    Scenario("dense, tied embeddings, virtual stages", _Q08, (9, 15), parallel=Parallel(pp=2, vpp=2)),
    Scenario("text-only MoE, MTP per expert", _Q35, (9, 18), _TEXT),
    Scenario("text-only MoE, MTP packed", _Q36, (18,), _TEXT),
    Scenario("text-only dense", _Q27, (18,), _TEXT, parallel=_TP2),
    Scenario("text-only dense, tied embeddings", _Q08, (9, 14, 18), _TEXT, parallel=_TP2),
    Scenario("FP8 MoE", _Q36 + "-fp8", (5,)),
    Scenario("FP8 dense", _Q27 + "-fp8", (5,), parallel=_TP2),
    Scenario("sequential experts, MTP per expert", _Q35, (1, 10), use=Use.SEQUENTIAL),
    Scenario("sequential experts, MTP packed", _Q36, (1, 10), use=Use.SEQUENTIAL),
    Scenario("sequential experts, decoder per expert", _Q36, (1, 10), _SINGLE, use=Use.SEQUENTIAL),
    Scenario("sequential experts, no MTP", _Q36, (16, 18), _NO_MTP, use=Use.SEQUENTIAL),
    Scenario(
        "sequential experts, text-only, 2 MTP layers", _Q36, (1, 2, 10), _TEXT | _TWO, use=Use.SEQUENTIAL
    ),
    Scenario("config-only export, MTP per expert", _Q35, (3, 9), use=Use.CONFIG_ONLY),
    Scenario("config-only export, MTP packed", _Q36, (3,), use=Use.CONFIG_ONLY),
    Scenario("config-only export, decoder per expert", _Q36, (3, 13), _SINGLE, use=Use.CONFIG_ONLY),
    Scenario("config-only export, tied embeddings", _Q08, (3, 4, 9), parallel=_TP2, use=Use.CONFIG_ONLY),
    Scenario("padded vocabulary, MoE", _Q36, (12, 17), use=Use.PADDED),
    Scenario("padded vocabulary, text-only", _Q27, (11, 18), _TEXT, parallel=Parallel(), use=Use.PADDED),
    Scenario("padded vocabulary, tied embeddings", _Q08, (9, 12, 14), parallel=_TP2, use=Use.PADDED),
    _mtp_off("MTP off, MoE", _Q36, (21, 24), _SHARED_SHARD),
    _mtp_off("MTP off, MTP in files of its own", _Q35, (9, 21, 24), _APART),
    _mtp_off("MTP off, dense, pp2 Etttt|L", _Q27, (21, 24), parallel=Parallel(pp=2, layout="Etttt|L")),
    _mtp_off("MTP off, text-only", _Q27, (18, 21, 24), _TEXT, _TP2),
    Scenario(
        "saved by every rank apart", _Q27, (25,), parallel=_TP2, use=Use.OWN_FOLDERS, stages=(Stage.SAVED,)
    ),
    _pinned(
        "pinned revision, main in another layout", _Q36, (34,), main=CheckpointSpec(preset(_Q35), seed=1)
    ),
    _pinned(
        "pinned revision, main without MTP", _Q35, (34,), main=CheckpointSpec(preset(_Q36), mtp_layers=0)
    ),
    _pinned("pinned revision, no main, dense", _Q27, (34,), parallel=_TP2),
    Scenario("layer types LLLFL", _Q36, (17, 27), _types("LLLFL")),
    Scenario("layer types LLL", _Q36, (17, 27), _types("LLL")),
    Scenario("layer types FLLF", _Q36, (17, 28), _types("FLLF")),
    Scenario("layer types LFL, no MTP", _Q36, (28,), _types("LFL") | _NO_MTP),
    Scenario("layer types FLFL, text-only dense", _Q27, (18, 27, 28), _types("FLFL") | _TEXT, parallel=_TP2),
    Scenario(
        "layer types LFFL, tied embeddings, virtual stages",
        _Q08,
        (9, 15, 27, 28),
        _types("LFFL"),
        parallel=Parallel(pp=2, vpp=2),
    ),
    Scenario("repeated MTP layer, MoE", _Q36, (17,), use=Use.REPEATED),
    Scenario("repeated MTP layer, pp2", _Q08, (9, 14), parallel=Parallel(pp=2), use=Use.REPEATED),
    Scenario("MTP layer that the checkpoint lacks", _Q36, (30,), _NO_MTP, use=Use.ADDED_MTP, refused=True),
    *(
        Scenario(f"parallel {parallel}, 2 key/value heads", _Q36, (17, 29), _WIDE, parallel)
        for parallel in (_TP4, replace(_TP4, ep=2), replace(_TP4, ep=4), replace(_TP4, pp=2, ranks=0))
    ),
    Scenario("parallel tp4, 2 key/value heads, dense", _Q27, (29,), _WIDE, _TP4),
    *(
        Scenario(f"parallel {parallel}", _Q36, findings, parallel=parallel)
        for parallel, findings in PIPELINES.items()
    ),
    Scenario("parallel cp2", _Q36, (23,), parallel=Parallel(cp=2), since="0.5.0"),
    Scenario("parallel ep2 ranks4", _Q36, (17,), parallel=Parallel(ep=2, ranks=4)),
    Scenario("parallel pp3 Ett|tt|mmL, 2 MTP layers", _Q36, (2, 10, 19), _TWO, _pp3("Ett|tt|mmL")),
    Scenario("parallel pp3 Ett|ttm|L, tied embeddings", _Q08, (9, 14, 19), parallel=_pp3("Ett|ttm|L")),
    Scenario("parallel pp3 Ett|tt|mL, text-only dense", _Q27, (18, 19), _TEXT, _pp3("Ett|tt|mL")),
    *(
        Scenario(f"resharded {pair}", _Q36, findings, parallel=pair, stages=_RESHARDED)
        for pair, findings in RESHARDINGS.items()
    ),
    Scenario("resharded ep2 to tp2, MTP per expert", _Q35, (9,), parallel=_EP2_TO_TP2, stages=_RESHARDED),
    Scenario(
        "resharded ep2 to tp2, by the config alone",
        _Q35,
        (3, 9),
        parallel=_EP2_TO_TP2,
        use=Use.CONFIG_ONLY,
        stages=_RESHARDED,
    ),
    Scenario("resharded tp4 to tp2", _Q36, (17, 29), _WIDE, _TP4_TO_TP2, stages=_RESHARDED),
    Scenario("YaRN, MoE", _Q35, (9, 31), _YARN, stages=_COMPUTED),
    Scenario("YaRN, dense", _Q27, (31,), _YARN, parallel=_TP2, stages=_COMPUTED),
    Scenario("YaRN, text-only dense", _Q27, (18, 31), _YARN_TEXT | _TEXT, parallel=_TP2, stages=_COMPUTED),
    Scenario("YaRN, resharded ep2 to tp2", _Q35, (9,), _YARN, _EP2_TO_TP2, stages=_RESHARDED),
    Scenario("linear rope scaling, dense", _Q27, (31,), _rope("linear", factor=4), _TP2, stages=_COMPUTED),
    Scenario("llama3 rope scaling, dense", _Q27, (31,), _LLAMA3, _TP2, stages=_COMPUTED, refused=True),
    Scenario("attention biases", _Q36, (32,), _changed("text_config.attention_bias=true"), refused=True),
    Scenario("tied by the config, another lm_head", _Q27, (33,), _TIED, _TP2, refused=True),
    Scenario("all stages, MTP per expert", _Q35, (9, 17, 21, 22), stages=ONE_LAYOUT),
    Scenario("all stages, MTP packed", _Q36, (17, 21), stages=ONE_LAYOUT),
    Scenario("all stages, FP8 MoE", _Q36 + "-fp8", (5,), stages=ONE_LAYOUT),
    Scenario("all stages, tied embeddings", _Q08, (9, 14, 21), parallel=_TP2, stages=ONE_LAYOUT),
    Scenario("fault: both layouts", _Q36, (7,), fault="both-layouts"),
    Scenario("fault: half a packed pair", _Q36, (7,), fault="half-packed"),
    Scenario("fault: an expert missing", _Q35, (6,), fault="expert-missing"),
    Scenario("fault: MTP declared and absent", _Q36, (6,), fault="mtp-declared-absent"),
    Scenario(
        "fault: MTP declared and absent, parallel pp2",
        _Q36,
        (6, 20),
        parallel=Parallel(pp=2),
        fault="mtp-declared-absent",
    ),
    Scenario("fault: MTP not declared", _Q36, (6,), fault="mtp-undeclared"),
    Scenario("fault: transposed down_proj", _Q36, (8,), fault="down-transposed"),
)
"""The table's rows. Dense models have no expert-parallel layouts."""
