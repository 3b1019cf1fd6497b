"""Makes docs/training.md of what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mtp_regression.maintenance.demo.fit import LENGTH, PRESET, ROWS
from mtp_regression.maintenance.demo.language import SYMBOLS

_TEXT = """\
# What it means for training

Megatron-Bridge {release} loads no packed MTP experts: {missing} of the tiny model's {parameters}
parameters keep what they had, with a warning. The pull request that mended it
([NVIDIA-NeMo/Megatron-Bridge#3740](https://github.com/NVIDIA-NeMo/Megatron-Bridge/pull/3740)) says that
they stay randomly initialized, and that with `mtp_loss_scaling_factor=0.1` "this leaks noise gradients
into training". `nox -s demo` measures how much, on a CPU, and makes this page and the figure.

![Three charts; the tables below have their figures.](training.svg)

## MTP's loss on the same tokens

| | main loss | MTP layer 0 |
|---|---|---|
{losses}

In nats a token. MTP could have {entropy:.4f}, the language's entropy; the decoder a little more, for it
also predicts each row's second token, from the first alone. *transformers* is the reference of the stage
`forward`: transformers' own classes, the logits of MTP taken for the token after the next. The patched
model has its losses. *Experts zero* is what fresh memory may give: random experts, of Megatron-Core's
standard deviation, say as little.

## What leaks into the decoder

The gradient of MTP's loss, times `mtp_loss_scaling_factor` ({factor}), goes back through the decoder's
hidden states and the embedding. By Megatron-Core's own backward pass on the same tokens: its norm, of the
norm of the main loss's gradient, and the cosine between what leaks in unpatched and what should:

| part | patched | unpatched | cosine |
|---|---|---|---|
{gradients}

{summary}

## Training goes on

After steps of AdamW on {batch} tokens each, of the same language, by Megatron-Core's gradients; losses of
other tokens:

| steps | main, patched | main, unpatched | MTP, patched | MTP, unpatched |
|---|---|---|---|---|
{training}

{verdict}

## What is synthetic

- The model is the kit's tiny `{preset}`: four decoder layers of width 168, eight experts. Decoder and MTP
  layer were fitted with transformers in {fitting} steps, and saved in BF16 with packed MTP experts: with
  random weights every loss would be that of guessing, whatever is loaded.
- The language is a Markov chain of second order over {symbols} tokens. In a published model MTP's experts
  may matter more or less: that loss and gradient change carries over to it, the figures do not.
- Random values are by Megatron-Core's `init_method` and `output_layer_init_method`, as in a model that is
  built with initialization. `to_megatron_provider()`, which loads the weights too, leaves initialization
  out: there the experts have what was in the memory.
- One rank of a CPU, float32, the kit's stand-in for TransformerEngine, evaluation mode: no dropout, and
  no auxiliary loss of routers. Another processor fits another model:
  on two, unpatched gradients of MTP in the decoder were 2.6 and 3.8 times as long as they should be.
"""


def page(found: Mapping[str, Any]) -> str:
    """Write the page.

    Args:
        found: From `measure`.
    """
    unpatched = found["unpatched"]
    return _TEXT.format(
        release=unpatched["release"],
        missing=unpatched["not loaded"],
        parameters=unpatched["parameters"],
        losses="\n".join(_losses(found)),
        entropy=found["entropy"],
        factor=unpatched["factor"],
        gradients="\n".join(_gradients(found)),
        summary=_summary(found),
        steps=unpatched["training"][-1][0],
        batch=ROWS * LENGTH,
        training="\n".join(_training(found)),
        verdict=_verdict(found),
        preset=PRESET,
        fitting=found["fitting"],
        symbols=SYMBOLS,
    )


def _losses(found: Mapping[str, Any]) -> Iterator[str]:
    release = found["unpatched"]["release"]
    rows = {
        "transformers": found["reference"]["losses"],
        f"{release}, patched": found["patched"]["losses"],
        f"{release}, experts random": found["unpatched"]["losses"],
        f"{release}, experts zero": found["unpatched"]["zeros"],
    }
    for name, losses in rows.items():
        yield f"| {name} | {losses['main']:.4f} | {losses['mtp.0']:.4f} |"


def _gradients(found: Mapping[str, Any]) -> Iterator[str]:
    for part, right in found["patched"]["gradients"].items():
        leak = found["unpatched"]["gradients"][part]
        shares = (of["mtp"] / of["main"] for of in (right, leak))
        yield f"| {part} | {' | '.join(f'{share:.1%}' for share in shares)} | {leak['cosine']:.2f} |"


def _training(found: Mapping[str, Any]) -> Iterator[str]:
    rows = zip(found["patched"]["training"], found["unpatched"]["training"], strict=True)
    for (step, right), (_, other) in rows:
        losses = (right["main"], other["main"], right["mtp.0"], other["mtp.0"])
        yield f"| {step} | {' | '.join(f'{loss:.3f}' for loss in losses)} |"


def _summary(found: Mapping[str, Any]) -> str:
    """Say what is in the table of gradients, in the decoder as a whole."""
    right, leak = (found[name]["gradients"]["decoder"] for name in ("patched", "unpatched"))
    return (
        "*decoder* is embedding, layers and final norm. The main loss's gradient is the same in both.\n"
        f"MTP's is {leak['mtp'] / right['mtp']:.1f} times as long in the decoder as it should be, and "
        f"points elsewhere: a cosine of {leak['cosine']:.2f}."
    )


def _verdict(found: Mapping[str, Any]) -> str:
    """Say what training did to the losses."""
    (_, right), (steps, other) = (found[name]["training"][-1] for name in ("patched", "unpatched"))
    apart = other["mtp.0"] - right["mtp.0"]
    before = found["unpatched"]["training"][0][1]["mtp.0"] - found["patched"]["training"][0][1]["mtp.0"]
    main = max(
        abs(one["main"] - two["main"])
        for (_, one), (_, two) in zip(
            found["patched"]["training"], found["unpatched"]["training"], strict=True
        )
    )
    return (
        f"MTP learns anew: of the {before:.2f} nats that it lost, {apart:.2f} are left after {steps} steps. "
        f"The main losses of the\ntwo stay within {main:.3f} nats of each other: at this size and length the "
        "leak is seen in the gradients, not in\nthe decoder's loss."
    )
