"""Parallel layouts: how many ranks a model is split over, and how; or two, of a Megatron checkpoint."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """A parallel layout, in Megatron-Core's terms.

    A pipeline is cut into PP * VPP stages of equal numbers of decoder layers, unless `layout`, or `first` and
    `last`, or `embedding` and `loss` say otherwise: one of the three.

    Attributes:
        tp: Tensor-parallel size.
        pp: Pipeline-parallel size.
        vpp: Virtual pipeline stages on each rank (model chunks); of a `layout`, what its stages come to.
        ep: Expert-parallel size.
        etp: Expert-tensor-parallel size.
        cp: Context-parallel size.
        first: Decoder layers on the first rank of the pipeline (`num_layers_in_first_pipeline_stage`); 0
            leaves it to the cut.
        last: The same for its last rank (`num_layers_in_last_pipeline_stage`).
        embedding: Whether the embedding counts as a layer of the first stage
            (`account_for_embedding_in_pipeline_split`).
        loss: Whether the loss counts as a layer of the last stage (`account_for_loss_in_pipeline_split`).
        layout: What each stage has, as Megatron-Core's `pipeline_model_parallel_layout`, such as "Et|tttmL":
            embedding, decoder layers (t), MTP layers (m) and loss, without commas.
        ranks: Number of ranks; 0 takes the fewest that the other sizes allow. More are replicas (data
            parallelism).
    """

    tp: int = 1
    pp: int = 1
    vpp: int = 1
    ep: int = 1
    etp: int = 1
    cp: int = 1
    first: int = 0
    last: int = 0
    embedding: bool = False
    loss: bool = False
    layout: str = ""
    ranks: int = 0

    def __post_init__(self) -> None:
        if self.layout:
            object.__setattr__(self, "vpp", self._vpp_of_layout())
        if (bool(self.layout) + bool(self.first or self.last) + (self.embedding or self.loss)) > 1:
            raise ValueError("a pipeline is cut by a layout, by first and last, or by embedding and loss")
        if not self.ranks:
            object.__setattr__(self, "ranks", self._fewest)
        if self.ranks % self._fewest:
            raise ValueError(f"{self.ranks} ranks cannot hold {self}: it takes a multiple of {self._fewest}")
        if self.pp == 1 and (self.vpp > 1 or self._is_cut):
            raise ValueError("virtual and unequal pipeline stages need at least two pipeline stages")

    def _vpp_of_layout(self) -> int:
        stages = self.layout_stages
        if len(stages) % self.pp or self.vpp not in (1, len(stages) // self.pp):
            raise ValueError(f"{self.layout} has {len(stages)} pipeline stages, not pp {self.pp} times vpp")
        if re.fullmatch(r"Et*m*L", "".join(stages)) is None:
            raise ValueError(f"not a pipeline layout: {self.layout!r}; write it like 'Et|tttmL'")
        return len(stages) // self.pp

    @property
    def layout_stages(self) -> list[str]:
        """What `layout` has in each virtual stage, with repetitions written out, such as ["Et", "tttmL"].

        "x*3" is "xxx" and "(tt|)*2" is "tt|tt|"
        (`megatron.core.transformer.pipeline_parallel_layer_layout.PipelineParallelLayerLayout.
        parse_str_to_list`).
        """
        text = self.layout
        for pattern in (r"\(([^)]+)\)\*(\d+)", r"(.)\*(\d+)"):
            text = re.sub(pattern, lambda match: match[1] * int(match[2]), text)
        return text.split("|")

    @property
    def mtp_stage(self) -> int:
        """Number, in the pipeline's order, of the virtual stage that has all MTP layers, if there are any.

        It is the one for which `layout` names them, else the last
        (`megatron.core.transformer.multi_token_prediction.mtp_on_this_rank`, `get_mtp_num_layers_to_build`).
        """
        stages = self.layout_stages
        return next((n for n, stage in enumerate(stages) if "m" in stage), self.pp * self.vpp - 1)

    @classmethod
    def parse(cls, text: str) -> Parallel:
        """Read a layout as it is printed: "tp2 pp2 ep2 ranks8" (or joined by dashes), "pp2 Et|tttmL", "tp1".

        Raises:
            ValueError: A word is not one of the sizes, or the sizes do not fit.
        """
        given: dict[str, Any] = {}
        for word in re.split(r"[\s,-]+", text.strip()):
            name, value = _read_word(word)
            if not name or name in given:
                raise ValueError(
                    f"not a parallel layout: {text!r}; write it like 'tp2 pp2 ep2 ranks8' or 'pp2 Et|tttmL'"
                )
            given[name] = value
        return cls(**given)

    def __str__(self) -> str:
        sizes = {name: getattr(self, name) for name in ("tp", "pp", "vpp", "ep", "etp", "cp")}
        if self.layout:
            del sizes["vpp"]
        words = [f"{name}{size}" for name, size in sizes.items() if size > 1]
        words += [f"{name}{getattr(self, name)}" for name in ("first", "last") if getattr(self, name)]
        words += [name for name in _FLAGS if getattr(self, name)]
        if self.layout:
            words.append(self.layout)
        if self.ranks != self._fewest:
            words.append(f"ranks{self.ranks}")
        return " ".join(words) or "tp1"

    @property
    def _fewest(self) -> int:
        """Number of ranks without replicas: a layer has TP * CP of them, and its experts EP * ETP."""
        return self.pp * math.lcm(self.tp * self.cp, self.ep * self.etp)

    @property
    def _is_cut(self) -> bool:
        return bool(self.layout or self.first or self.last or self.embedding or self.loss)


_FLAGS = ("embedding", "loss")
_SIZES = tuple(field.name for field in fields(Parallel) if field.name not in (*_FLAGS, "layout"))


def _read_word(word: str) -> tuple[str, str | int | bool]:
    """Return the attribute that a word of a layout gives, and its value; "" if it gives none."""
    if match := re.fullmatch(rf"({'|'.join(_SIZES)})([1-9]\d*)", word):
        return match[1], int(match[2])
    if word in _FLAGS:
        return word, True
    return ("layout", word) if re.fullmatch(r"E[tmL|()*\d]*", word) else ("", "")


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """The place of one rank in a parallel layout: its rank in each group, from 0."""

    tp: int = 0
    pp: int = 0
    ep: int = 0
    etp: int = 0


_TO = " to "


@dataclass(frozen=True)
class Resharding:
    """A Megatron checkpoint that is saved in one layout and loaded in another.

    Both have as many ranks as the least common multiple of theirs; what a layout does not need are replicas.

    Attributes:
        before: In which it is saved.
        after: In which it is loaded.
    """

    before: Parallel
    after: Parallel

    def __post_init__(self) -> None:
        ranks = math.lcm(self.before.ranks, self.after.ranks)
        for name in ("before", "after"):
            object.__setattr__(self, name, replace(getattr(self, name), ranks=ranks))

    @property
    def ranks(self) -> int:
        """Number of ranks."""
        return self.after.ranks

    def __str__(self) -> str:
        before, after = (replace(layout, ranks=0) for layout in (self.before, self.after))
        if math.lcm(before.ranks, after.ranks) != self.ranks:  # more were asked for
            before, after = self.before, self.after
        return f"{before}{_TO}{after}"


def read_layout(text: str) -> Parallel | Resharding:
    """Read a parallel layout (see `Parallel.parse`), or two with "to" between them, such as "ep2 to tp2".

    Raises:
        ValueError: It is neither.
    """
    before, to, after = text.partition(_TO)
    return Resharding(Parallel.parse(before), Parallel.parse(after)) if to else Parallel.parse(before)


GRID = (
    Parallel(),
    Parallel(tp=2),
    Parallel(pp=2),
    Parallel(pp=2, vpp=2),
    Parallel(ep=2),
    Parallel(tp=2, ep=2),
    Parallel(tp=2, etp=2),
    Parallel(ep=4),
    Parallel(tp=2, pp=2),
    Parallel(pp=2, ep=2),
    Parallel(ep=2, etp=2),
    Parallel(ep=8),
    Parallel(tp=2, pp=2, ep=2, ranks=8),
)
"""The parallel layouts of the main job, all of them; each divides the tiny geometry."""

DEFAULT_GRID = (Parallel(), Parallel(tp=2), Parallel(pp=2, vpp=2), Parallel(ep=2, etp=2))
"""Those of `GRID` with the fewest ranks that see all that `GRID` sees: `mutants.grid` says what that is."""

DENSE_GRID = tuple(parallel for parallel in GRID if parallel.ep == parallel.etp == 1)
"""Those of `GRID` without expert parallelism, for dense models."""


class Grid(StrEnum):
    """How many of the layouts that a bridge can do are taken, where none is named."""

    DEFAULT = "default"
    FULL = "full"

    def of(self, layouts: Sequence[Parallel]) -> Sequence[Parallel]:
        """Choose of layouts; of those that lack one of `DEFAULT_GRID`, which then may miss something, all."""
        return DEFAULT_GRID if self is Grid.DEFAULT and {*DEFAULT_GRID} <= {*layouts} else layouts
