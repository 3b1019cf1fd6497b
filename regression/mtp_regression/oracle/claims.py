"""What a wrong parameter of a rank may hold instead: another rank's, another layer's or another expert's."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np

from mtp_checkpoint.layouts.keys import TEXT_ONLY_PREFIX, parse
from mtp_fixtures.model.geometry import TextGeometry
from mtp_regression.comparison.tensors import RawTensor, Tensors
from mtp_regression.oracle.parameters import native_parameters
from mtp_regression.oracle.placement import Placement
from mtp_regression.oracle.recipes import Recipe
from mtp_regression.oracle.source import AbsentError
from mtp_regression.provenance.orders import WHOLE, Cut
from mtp_regression.provenance.origins import Claim, Origins, Shard
from mtp_regression.ranks.parallel import Coordinates, Parallel

_BEGIN = 64
_NUMBER = re.compile(r"\d+")
_EXPERT = re.compile(r"(\.experts\.linear_fc[12]\.weight)(\d+)$")
_LAYER = re.compile(r"^(?P<chunk>\d+)/decoder\.layers\.(?P<layer>\d+)\.")
_OF_LAYER = re.compile(r".*?(layers|blocks)\.\d+\.|.*?/")
_CENTRED = "self_attention.out_norm.weight"
_Begin = tuple[tuple[int, ...], bytes]
"""A parameter's shape and first bytes."""


class NativeOrigins:
    """What a rank's parameters may hold instead of their values."""

    def __init__(
        self,
        tensors: Tensors,
        config: Mapping[str, Any],
        parallel: Parallel,
        rank: Coordinates,
        *,
        vocab_divisor: int = 1,
        **options: Any,
    ) -> None:
        """Take what `native_parameters` takes; nothing is computed before something is wrong."""
        self._tensors, self._config, self._parallel, self._rank = tensors, config, parallel, rank
        self._divisor, self._options = vocab_divisor, options
        self._origins = Origins({}, config=config)
        self._begins: dict[str, _Begin] = {}
        self._by_begin: dict[str, Mapping[_Begin, list[str]]] = {}

    def of(self, name: str, expected: RawTensor, actual: RawTensor) -> str:
        """Say what a parameter holds; see `Origins.of`.

        Args:
            name: The parameter's, as `native_parameters` names it.
            expected: Its value.
            actual: What the rank holds.
        """
        own = self._whole_name(name)
        group, index, count = (
            ("etp", self._rank.etp, self._parallel.etp)
            if _EXPERT.search(name)
            else ("tp", self._rank.tp, self._parallel.tp)
        )
        recipe = self._wholes.get(own) if count > 1 else None
        whole = None if recipe is None else RawTensor.from_array(recipe())
        cut = WHOLE if whole is None else Cut(index, count, group)
        shard = Shard(whole, cut, self._claims(name, own, actual))
        said = self._origins.of(own, expected, actual, shard)
        return "1 was not subtracted" if own.endswith(_CENTRED) and said == "1 was added" else said

    def _recipes(self, *, source: Tensors | None = None, **coordinates: int) -> dict[str, Recipe]:
        """Return the recipes of a model on one stage with all experts; of a rank's shards if it is given."""
        one = Parallel(tp=self._parallel.tp, etp=self._parallel.etp) if coordinates else Parallel()
        divisor = self._divisor if coordinates or self._divisor == 1 else self._divisor * self._parallel.tp
        return native_parameters(
            self._tensors if source is None else source,
            self._config,
            one,
            Coordinates(**coordinates),
            vocab_divisor=divisor,
            **self._options,
        )

    @cached_property
    def _wholes(self) -> dict[str, Recipe]:
        return self._recipes()

    @cached_property
    def _shards(self) -> dict[str, Recipe]:
        return self._recipes(tp=self._rank.tp, etp=self._rank.etp)

    @cached_property
    def _placement(self) -> Placement:
        text_only = self._config["architectures"][0].endswith("ForCausalLM")
        text = TextGeometry.from_config(self._config if text_only else self._config["text_config"])
        return Placement(text, self._parallel, self._rank, bool(self._options.get("without_mtp")))

    @cached_property
    def _layers(self) -> dict[str, int]:
        """Number of every decoder layer of the rank in the whole model."""
        layers = self._placement.decoder_layers(TEXT_ONLY_PREFIX)
        return {layer.target: layer.place.layer or 0 for layer in layers}

    def _whole_name(self, name: str) -> str:
        """Return the name that a parameter has on one stage with all experts."""
        match = _LAYER.match(name)
        if match and match[0] in self._layers:
            name = f"0/decoder.layers.{self._layers[match[0]]}.{name[match.end() :]}"
        name = re.sub(r"^\d+/", "0/", name)
        if match := _EXPERT.search(name):
            name = name[: match.start(2)] + str(self._placement.experts[int(match[2])])
        return name

    def _claims(self, name: str, own: str, actual: RawTensor) -> Iterator[Claim]:
        """Yield what else it may be, by shape and first bytes: other experts, layers, parameters, scales."""
        for other in self._others(own, actual):
            yield self._sentence(name, own, other), partial(_made, self._shards[other])
        for sentence, changed in self._with_other_scales.items():
            if own in changed:  # a tied output layer is no parameter of its own on one stage
                yield sentence, partial(_made, changed[own])

    @cached_property
    def _with_other_scales(self) -> dict[str, dict[str, Recipe]]:
        """Recipes from other scales of FP8 weights, by the sentence on them; none without such weights."""
        if not any(parse(key).scale for key in self._tensors):
            return {}
        shard = {"tp": self._rank.tp, "etp": self._rank.etp}
        return {
            sentence: self._recipes(source=_Scaled(self._tensors, change), **shard)
            for sentence, change in (("scales not applied", _ones), ("scales applied twice", _squares))
        }

    def _others(self, own: str, actual: RawTensor) -> Iterator[str]:
        """Name other parameters that begin as one does: its layer's, and the same of other layers.

        Of experts these are the others of the layer, and the same of other layers.
        """
        begin = actual.shape, actual.data[:_BEGIN].tobytes()
        for group in _groups(own):
            if group not in self._by_begin:  # once for all that are wrong: each would look at all others
                alike = defaultdict(list)
                for other in self._grouped[group]:
                    alike[self._begin(other)].append(other)
                self._by_begin[group] = alike
            yield from (other for other in self._by_begin[group].get(begin, ()) if other != own)

    @cached_property
    def _grouped(self) -> Mapping[str, list[str]]:
        grouped = defaultdict(list)
        for name in self._shards:
            for group in _groups(name):
                grouped[group].append(name)
        return grouped

    def _begin(self, name: str) -> _Begin:
        if name not in self._begins:
            try:
                value = _made(self._shards[name])
            except (AbsentError, ValueError):
                self._begins[name] = (), b""
            else:
                self._begins[name] = value.shape, value.data[:_BEGIN].tobytes()
        return self._begins[name]

    def _sentence(self, name: str, own: str, other: str) -> str:
        mine, theirs = _EXPERT.search(own), _EXPERT.search(other)
        if mine and theirs and own[: mine.start(2)] == other[: theirs.start(2)]:
            local = _EXPERT.search(name)
            why = " (the number on the rank)" if local and local[2] == theirs[2] else ""
            return f"is expert {theirs[2]}'s, not expert {mine[2]}'s{why}"
        return f"is {other.partition('/')[2]}"


def _groups(name: str) -> tuple[str, str]:
    """Return what a parameter has in common with others of its layer, and with those of other layers."""
    if match := _EXPERT.search(name):
        return name[: match.start(2)], _NUMBER.sub("#", name[: match.start(2)]) + match[2]
    layer = _OF_LAYER.match(name)
    return layer[0] if layer else "", _NUMBER.sub("#", name)


def _made(recipe: Recipe) -> RawTensor:
    return RawTensor.from_array(recipe())


class _Scaled(Mapping[str, RawTensor]):
    """A checkpoint's tensors with other scales of FP8 weights."""

    def __init__(self, tensors: Tensors, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self._tensors, self._change = tensors, change

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __getitem__(self, name: str) -> RawTensor:
        tensor = self._tensors[name]
        return RawTensor.from_array(self._change(tensor.array())) if parse(name).scale else tensor


def _ones(scales: np.ndarray) -> np.ndarray:
    return np.ones(scales.shape, np.float32)


def _squares(scales: np.ndarray) -> np.ndarray:
    return np.asarray(scales.astype(np.float32) ** 2)
