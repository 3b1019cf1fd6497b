"""The logits of a checkpoint's model by transformers' own classes, in float32 on the CPU."""

from __future__ import annotations

import copy
import importlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from mtp_checkpoint.layouts.keys import MTP_PREFIX, parse
from mtp_checkpoint.messages import listed
from mtp_regression.comparison.other_checkpoint import in_other_mtp_layout
from mtp_regression.comparison.tensors import Tensors
from mtp_regression.forward import hooks
from mtp_regression.forward.agreement import Computed
from mtp_regression.forward.batches import STARTS, Batch, draw
from mtp_regression.forward.dequantized import QUANTIZATION, dequantized, write_dequantized

_EAGER = "eager"


_SEEN = ("pixel_values", "image_grid_thw"), ("pixel_values_videos", "video_grid_thw")
"""Arguments that have images, and videos."""
_TRIES = 8
"""Batches that are drawn until one has no near tie."""
_NEAR = 1e-4
"""Of the spread of a router's scores: what float32 may decide either way, with room."""


def reference_of(
    checkpoint: Path,
    config: Mapping[str, Any],
    tensors: Tensors,
    draw: Callable[[Mapping[str, Any], int], Batch] = draw,
) -> tuple[Batch, Computed]:
    """Draw a batch that suits a checkpoint, and compute it.

    Args:
        checkpoint: The checkpoint's folder.
        config: Its `config.json`.
        tensors: Its tensors, of which those of MTP are read.
        draw: One of `batches`' functions.

    Returns:
        Of some batches, with images if the model sees, the one in which the most positions are decided.
    """
    with tempfile.TemporaryDirectory(prefix="mtp-reference-") as name:
        if QUANTIZATION in config:
            tensors, fp8 = dequantized(tensors, config), checkpoint
            checkpoint = Path(name, "dequantized")
            write_dequantized(checkpoint, tensors, like=fp8)
        model = Reference(checkpoint, tensors)
    best: tuple[Batch, Computed] | None = None
    for seed in range(_TRIES):
        batch = draw(config, seed)
        computed = model.compute(batch)
        if best is None or computed.positions > best[1].positions:
            best = batch, computed
        if computed.positions == _real(batch).sum():
            break
    assert best is not None, "at least one was drawn"
    return best


class Reference:
    """A checkpoint's model, and its MTP layers, which transformers leaves out.

    MTP is put together here of transformers' decoder layer and norm, as the checkpoint's names and
    Megatron-Core's `MultiTokenPredictionLayer` have it: the embedding of the next token and the hidden state,
    each normalised, side by side through `mtp.fc`; a decoder layer with full attention; `mtp.norm`; the
    model's own output layer.
    """

    def __init__(self, checkpoint: Path, tensors: Tensors) -> None:
        """Load it.

        Args:
            checkpoint: The checkpoint's folder.
            tensors: Its tensors, of which those of MTP are read.

        Raises:
            ValueError: The model has parameters that the checkpoint has no tensors for.
        """
        config = AutoConfig.from_pretrained(checkpoint)
        sees = hasattr(config, "vision_config")
        auto = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        self._model, loading = auto.from_pretrained(
            checkpoint, dtype=torch.float32, attn_implementation=_EAGER, output_loading_info=True
        )
        self._model.eval()
        if missing := sorted(loading["missing_keys"]):
            raise ValueError(f"transformers finds no {listed(missing)} in the checkpoint")
        self._text = config.get_text_config()
        self._seen = [getattr(config, f"{kind}_token_id", None) for kind in ("image", "video")]
        self._decoder = getattr(self._model.model, "language_model", self._model.model)
        self._mtp = [*_mtp_layers(self._decoder, self._text, tensors)]

    def compute(self, batch: Batch) -> Computed:
        """Compute the logits of a batch, "main" and "mtp.{i}" for each MTP layer, in eval mode.

        Each document of a packed row is computed by itself.
        """
        if STARTS in batch:
            parts = [self.compute(document) for document in self._documents(batch)]
            names = parts[0].logits
            logits = {name: torch.cat([part.logits[name] for part in parts], dim=1) for name in names}
            return Computed(logits, torch.cat([part.decided for part in parts], dim=1))
        modules = [*self._model.modules(), *(module for layer in self._mtp for module in layer.modules())]
        with torch.no_grad(), hooks.margins(modules, self._text) as margins:
            found = self.logits(batch)
        real = _real(batch)
        near = torch.zeros_like(real)
        for margin in margins:
            near |= real & (margin.view(near.shape) < _NEAR)
        return Computed(found, real & (near.cumsum(dim=1) == 0))

    def logits(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Compute the logits alone; a loss of them has gradients."""
        ids, real = batch["input_ids"], batch.get("attention_mask")
        given: dict[str, torch.Tensor] = dict(batch)
        if any(name in batch for name, _ in _SEEN):
            image, video = self._seen
            given["mm_token_type_ids"] = (ids == image).long() + 2 * (ids == video).long()
        with (
            hooks.in_torch(importlib.import_module(type(self._decoder).__module__)),
            hooks.returned(self._decoder.norm) as states,
            hooks.positions(self._decoder) as positions,
        ):
            found = {"main": self._model(**given, use_cache=False).logits}
            hidden = states[-1]
            for number, layer in enumerate(self._mtp):
                ids = torch.cat([ids[:, 1:], torch.zeros_like(ids[:, :1])], dim=1)
                hidden = layer(self._decoder.embed_tokens(ids), hidden, positions[-1], real)
                found[f"mtp.{number}"] = self._model.lm_head(hidden)
        return found

    def _documents(self, batch: Batch) -> Iterator[Batch]:
        """Take a packed row apart; each image and each video is in one of the documents."""
        for start, end in pairwise(batch[STARTS].tolist()):
            document = {"input_ids": batch["input_ids"][:, start:end]}
            for token, names in zip(self._seen, _SEEN, strict=True):
                if token is not None and (document["input_ids"] == token).any():
                    document |= {name: batch[name] for name in names}
            yield document

    def weights(self) -> dict[str, torch.Tensor]:
        """Give the parameters by the checkpoint's keys; experts are packed.

        What all MTP layers share each layer has of its own here; the first one's is given.
        """
        found = dict(self._model.named_parameters())
        for number, layer in enumerate(self._mtp):
            for name, parameter in layer.named_parameters():
                inner = name.removeprefix("layer.")
                name = name if inner == name else f"layers.{number}.{inner}"
                found.setdefault(MTP_PREFIX + name, parameter)
        return found


def _real(batch: Batch) -> torch.Tensor:
    """Return which tokens are no padding: bool, as the `input_ids`."""
    return batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()


class _MtpLayer(nn.Module):
    """One MTP layer; see `Reference`."""

    def __init__(
        self, decoder: nn.Module, text: Any, weights: Mapping[str, torch.Tensor], number: int
    ) -> None:
        super().__init__()
        module, family = importlib.import_module(type(decoder).__module__), type(decoder).__name__
        family = family.removesuffix("TextModel").removesuffix("Model")
        norm = getattr(module, f"{family}RMSNorm")
        one = copy.deepcopy(text)
        one.layer_types, one._attn_implementation = ["full_attention"], _EAGER
        self.layer = getattr(module, f"{family}DecoderLayer")(one, 0)
        prefix = f"layers.{number}."
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        self.layer.load_state_dict(own, strict=True)
        for name in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm"):
            setattr(self, name, norm(text.hidden_size, eps=text.rms_norm_eps))
            getattr(self, name).weight.data.copy_(weights[f"{name}.weight"])
        self.fc = nn.Linear(2 * text.hidden_size, text.hidden_size, bias=False)
        self.fc.weight.data.copy_(weights["fc.weight"])
        self._rotary = decoder.rotary_emb

    def forward(
        self,
        embedding: torch.Tensor,
        hidden: torch.Tensor,
        positions: torch.Tensor,
        real: torch.Tensor | None,
    ) -> torch.Tensor:
        both = torch.cat([self.pre_fc_norm_embedding(embedding), self.pre_fc_norm_hidden(hidden)], dim=-1)
        length = both.shape[1]
        unseen = torch.ones(1, 1, length, length, dtype=torch.bool).triu(1)
        if real is not None:
            unseen = unseen | (real[:, None, None] == 0)
        found = self.layer(
            self.fc(both),
            position_embeddings=self._rotary(both, positions),
            attention_mask=unseen * torch.finfo(torch.float32).min,
            position_ids=positions,
        )
        return self.norm(found[0] if isinstance(found, tuple) else found)


def _mtp_layers(decoder: nn.Module, text: Any, tensors: Tensors) -> Iterator[nn.Module]:
    """Make the layers; experts are packed, as transformers has them."""
    mtp = {name: tensors[name] for name in tensors if name.startswith(MTP_PREFIX)}
    if any(parse(name).expert is not None for name in mtp):
        mtp = in_other_mtp_layout(mtp) or {}
    weights = {name.removeprefix(MTP_PREFIX): tensor.to_torch().float() for name, tensor in mtp.items()}
    for number in range(getattr(text, "mtp_num_hidden_layers", 0) if weights else 0):
        yield _MtpLayer(decoder, text, weights, number).eval()
