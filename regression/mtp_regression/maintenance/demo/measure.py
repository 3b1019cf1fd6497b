"""Measures one checkpoint in the reference and in Megatron, loaded as the release does and patched."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from mtp_regression.adapters.using import Used
from mtp_regression.comparison.tensors import read_folder
from mtp_regression.forward.reference import Reference
from mtp_regression.maintenance.demo.fit import LENGTH, ROWS, fit, losses
from mtp_regression.maintenance.demo.language import Language
from mtp_regression.maintenance.demo.model import PatchedTrained, Trained
from mtp_regression.ranks.parallel import Parallel
from mtp_regression.ranks.world import World

_HELD_OUT = (64, 32, 10**6)
"""Rows, length and seed of the tokens that everything is measured on; no batch has this seed."""
_TRAINING_SEED = 10**7
_RATE = 5e-4
_EMBEDDING = "model.language_model.embed_tokens.weight"
_EVERY = 5
"""Steps of training between two measurements."""

Gradients = Mapping[str, torch.Tensor]


def measure(world: World, folder: Path, fitting: int, training: int) -> dict[str, Any]:
    """Fit a checkpoint, and measure it; runs on one rank.

    Args:
        world: The rank.
        folder: Where the checkpoint goes.
        fitting: Steps of the fit.
        training: Steps that Megatron's models are trained on; a multiple of 5.

    Returns:
        What `page` and `figure` tell.
    """
    del world
    language = Language()
    checkpoint = fit(folder / "fitted", language, fitting)
    tokens = language.draw(*_HELD_OUT)
    found: dict[str, Any] = {"entropy": language.entropy, "fitting": fitting}
    found["reference"] = _reference(checkpoint, tokens)
    patched, main, right = _loaded(PatchedTrained(), checkpoint, language, tokens, training)
    patched["gradients"] = _by_part(main, right, right)
    unpatched, main, leak = _loaded(Trained(), checkpoint, language, tokens, training)
    unpatched["gradients"] = _by_part(main, leak, right)
    return found | {"patched": patched, "unpatched": unpatched}


def _loaded(
    model: Trained, checkpoint: Path, language: Language, tokens: torch.Tensor, training: int
) -> tuple[dict[str, Any], Gradients, Gradients]:
    """Load the checkpoint into a model, measure it, and train it.

    Returns:
        What was measured; the gradients of the main loss before the training; and MTP's, times the scaling
        factor.
    """
    try:
        Used(model).begin(checkpoint, Parallel())
        factor = model.scaling_factor
        found: dict[str, Any] = {"release": model.release, "factor": factor}
        found |= {"not loaded": len(model.not_loaded), "parameters": sum(1 for _ in model.parameters())}
        model.zero()
        found["zeros"] = model.losses(tokens)
        model.initialise(seed=0)
        found["losses"] = model.losses(tokens)
        main, both = model.gradients(tokens, 0.0), model.gradients(tokens, factor)
        found["training"] = list(_train(model, language, tokens, training))
    finally:
        model.close()
    return found, main, {name: both[name] - main[name] for name in both}


def _reference(checkpoint: Path, tokens: torch.Tensor) -> dict[str, dict[str, float]]:
    """Give the losses, and the norms of their gradients in the embedding, by transformers."""
    model = Reference(checkpoint, read_folder(checkpoint))
    embedding = model.weights()[_EMBEDDING]
    found = losses(model.logits({"input_ids": tokens}), tokens)
    norms = {
        name: torch.autograd.grad(loss, embedding, retain_graph=True)[0].norm().item()
        for name, loss in found.items()
    }
    return {"losses": {name: loss.item() for name, loss in found.items()}, "embedding": norms}


def _train(
    model: Trained, language: Language, tokens: torch.Tensor, steps: int
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train, and yield the losses of other tokens after every few steps."""
    weights = model.weights
    optimizer = torch.optim.AdamW(weights.values(), lr=_RATE, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(steps + 1):
        if step % _EVERY == 0:
            yield step, model.losses(tokens)
        if step == steps:
            return
        batch = language.draw(ROWS, LENGTH, _TRAINING_SEED + step)
        for name, gradient in model.gradients(batch, model.scaling_factor).items():
            weights[name].grad = gradient
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()


def _by_part(main: Gradients, leak: Gradients, right: Gradients) -> dict[str, dict[str, float]]:
    """Give, for each part of the model, the norms of both losses' gradients, and how MTP's is turned.

    Args:
        main: The main loss's gradients.
        leak: MTP's, times the scaling factor.
        right: MTP's when every parameter is loaded.
    """
    parts: dict[str, list[str]] = {}
    for name in main:
        for part in _parts(name):
            parts.setdefault(part, []).append(name)
    found = {}
    for part, names in parts.items():
        one, other, wanted = (
            torch.cat([of[name].flatten().double() for name in names]) for of in (main, leak, right)
        )
        found[part] = {
            "main": one.norm().item(),
            "mtp": other.norm().item(),
            "cosine": torch.nn.functional.cosine_similarity(other, wanted, dim=0).item(),
        }
    return found


def _parts(name: str) -> Iterator[str]:
    """Name the parts that a parameter is counted in: the decoder, and one of its own."""
    layer = re.search(r"/decoder\.layers\.(\d+)\.", name)
    if "/embedding." in name:
        yield "embedding"
    elif layer:
        yield f"layer {int(layer[1]) + 1}"
    if "/embedding." in name or "/decoder." in name:
        yield "decoder"
    elif "/output_layer." in name:
        yield "output layer"
