"""The parameters of one model: the table's rows for every layer and expert that `config.json` declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from mtp_checkpoint.layouts.attention import FULL_ATTENTION
from mtp_checkpoint.layouts.expert_layout import ExpertLayout, Shape
from mtp_checkpoint.layouts.keys import (
    EMBEDDING,
    MTP_PREFIX,
    TEXT_ONLY_PREFIX,
    TEXT_PREFIX,
    VISION_PREFIX,
    Place,
)
from mtp_fixtures.model.geometry import Geometry, LinearProjections, TextGeometry, VisionGeometry
from mtp_fixtures.model.mlp import Moe
from mtp_fixtures.model.schema import checkpoint_tensors
from mtp_regression.in_memory.conversions import Conversion
from mtp_regression.in_memory.table import Rows, Section, Table


class Home(StrEnum):
    """What decides on which stages of a pipeline a parameter is; see `placement.Placement.stages`."""

    EMBEDDING = "embedding"
    DECODER = "decoder"
    FINAL_NORM = "final norm"
    OUTPUT = "output"
    MTP = "mtp"
    VISION = "vision"


@dataclass(frozen=True)
class Parameter:
    """One parameter of the whole model.

    Attributes:
        conversion: How it is made.
        home: Where it belongs.
        template: Megatron-Core's name, with `{layer}` and `{expert}` for the numbers that ranks count anew.
        keys: Hugging Face's keys.
        layer: Number of the layer; 0 outside of all.
        expert: Number of the routed expert; None for other parameters.
    """

    conversion: Conversion
    home: Home
    template: str
    keys: tuple[str, ...]
    layer: int = 0
    expert: int | None = None

    @property
    def name(self) -> str:
        """Its name in a model that is whole on one rank."""
        return self.template.format(layer=self.layer, expert=self.expert)


@dataclass(frozen=True)
class Model:
    """A model, as its configuration declares it.

    Attributes:
        sizes: Its dimensions.
        root: What the language model's keys begin with.
        tied: Whether the output layer is the embedding.
    """

    sizes: Geometry
    root: str
    tied: bool

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Model:
        """Read a `config.json`.

        Raises:
            KeyError: A dimension, or `architectures`, is missing.
        """
        text_only = config["architectures"][0].endswith("ForCausalLM")
        text = TextGeometry.from_config(config if text_only else config["text_config"])
        tied = bool(config.get("tie_word_embeddings", text.tie_word_embeddings))
        vision = None
        if not text_only:
            names = {field.name for field in fields(VisionGeometry)}
            given = config["vision_config"].items()
            vision = VisionGeometry(**{name: value for name, value in given if name in names})
        sizes = Geometry(text=replace(text, tie_word_embeddings=tied), vision=vision)
        return cls(sizes, TEXT_ONLY_PREFIX if text_only else TEXT_PREFIX, tied)

    def stored(self, decoder: ExpertLayout, mtp: ExpertLayout) -> dict[str, Shape]:
        """Give the shape of every tensor that a checkpoint has whose experts are stored so, scales apart."""
        tensors = checkpoint_tensors(
            self.sizes, decoder_experts=decoder, mtp_experts=mtp, float32_roles=frozenset()
        )
        return {tensor.name: tensor.shape for tensor in tensors}

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every tensor that parameters are made of: routed experts by themselves."""
        return self.stored(ExpertLayout.PER_EXPERT, ExpertLayout.PER_EXPERT)

    def whole_shape(self, parameter: Parameter) -> Shape:
        """Return the shape of a parameter that is whole: all rows of the tensors that it is made of."""
        shapes = [self.shapes[key] for key in parameter.keys]
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def parameters(self, table: Table) -> Iterator[Parameter]:
        """Yield every parameter, those of all layers and experts, in one order on all ranks."""
        text = self.sizes.text
        yield from _below(table[Section.EMBEDDING], Home.EMBEDDING, "", self.root)
        for layer, attention in enumerate(text.layer_types):
            place = Place(self.root, layer)
            yield from self._layer(table, Home.DECODER, place, linear=attention != FULL_ATTENTION)
        yield from _below(table[Section.FINAL_NORM], Home.FINAL_NORM, "", self.root)
        for parameter in _below(table[Section.OUTPUT], Home.OUTPUT, "", ""):
            yield replace(parameter, keys=(self.root + EMBEDDING,)) if self.tied else parameter
        for layer in range(text.mtp_num_hidden_layers):
            yield from _below(table[Section.MTP], Home.MTP, "mtp.layers.{layer}.", MTP_PREFIX, layer)
            yield from self._layer(table, Home.MTP, Place(MTP_PREFIX, layer), linear=False)
        if self.sizes.vision is None:
            return
        yield from _below(table[Section.VISION], Home.VISION, "vision_model.", VISION_PREFIX)
        for layer in range(self.sizes.vision.depth):
            name, key = f"vision_model.decoder.layers.{layer}.", Place(VISION_PREFIX, layer).key
            yield from _below(table[Section.VISION_LAYER], Home.VISION, name, key)

    def _layer(self, table: Table, home: Home, place: Place, *, linear: bool) -> Iterator[Parameter]:
        text, number = self.sizes.text, place.layer or 0
        fused = text.linear_projections is LinearProjections.FUSED
        attention = (Section.FUSED_LINEAR if fused else Section.LINEAR) if linear else Section.FULL
        mixture = isinstance(text.mlp, Moe)
        for section in (attention, Section.MIXTURE if mixture else Section.DENSE):
            yield from _below(table[section], home, f"{home}.layers.{{layer}}.", place.key, number)
        for expert in range(text.mlp.num_experts if isinstance(text.mlp, Moe) else 0):
            rows = table[Section.EXPERT]
            yield from _below(rows, home, f"{home}.layers.{{layer}}.", place.key, number, expert)


def _below(
    rows: Rows, home: Home, name: str, key: str, layer: int = 0, expert: int | None = None
) -> Iterator[Parameter]:
    """Yield the parameters of a section's rows, for one layer and expert."""
    for row in rows:
        keys = tuple(key + own.format(expert=expert) for own in row.keys)
        yield Parameter(row, home, name + row.name, keys, layer, expert)
