"""Draws what was measured, as one SVG that is read on light and on dark pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtp_regression.maintenance.bench.drawing import BLUE, ORANGE, TEXT, drawn_alike, svg

_PATCHED, _UNPATCHED = BLUE, ORANGE
PARTS = ("embedding", "layer 1", "layer 2", "layer 3", "layer 4", "output layer")


def figure(found: Mapping[str, Any]) -> str:
    """Draw it.

    Args:
        found: From `measure`.

    Returns:
        The SVG; the same bytes for the same figures and release of matplotlib.
    """
    with drawn_alike():
        whole = Figure(figsize=(10.5, 3.5), layout="constrained")
        one, two, three = whole.subplots(1, 3, width_ratios=(1, 1.5, 1.3))
        _losses(one, found)
        _gradients(two, found)
        _training(three, found)
        return svg(whole, TITLE, description(found))


TITLE = "MTP's loss and gradients with its experts loaded, and not"


def description(found: Mapping[str, Any]) -> str:
    """Say what the figure shows, for those who do not see it."""
    loss = {name: found[name]["losses"]["mtp.0"] for name in ("reference", "patched", "unpatched")}
    share = {name: ratio(found, name, "decoder") for name in ("patched", "unpatched")}
    (steps, right), (_, other) = (found[name]["training"][-1] for name in ("patched", "unpatched"))
    return (
        f"Left: MTP's loss on the same tokens is {loss['reference']:.4f} in transformers, "
        f"{loss['patched']:.4f} in Megatron with the patch and {loss['unpatched']:.4f} without. Middle: "
        f"MTP's gradient in the decoder, of the main loss's: {share['patched']:.1%} with the patch, "
        f"{share['unpatched']:.1%} without. Right: after {steps} steps of training MTP's loss is "
        f"{right['mtp.0']:.3f} with the patch and {other['mtp.0']:.3f} without; "
        f"the main loss {right['main']:.3f} and {other['main']:.3f}."
    )


def ratio(found: Mapping[str, Any], name: str, part: str) -> float:
    """Return the norm of MTP's gradient in a part of the model, of the main loss's."""
    gradients = found[name]["gradients"][part]
    return float(gradients["mtp"] / gradients["main"])


def _losses(axes: Axes, found: Mapping[str, Any]) -> None:
    names = ("unpatched", "patched", "reference")
    values = [found[name]["losses"]["mtp.0"] for name in names]
    bars = axes.barh(
        ["0.4.2", "0.4.2, patched", "transformers"],
        values,
        color=[_UNPATCHED, _PATCHED, TEXT],
        hatch=["//", "", ""],
        height=0.6,
    )
    axes.bar_label(bars, [f"{value:.3f}" for value in values], padding=3)
    axes.axvline(found["entropy"], color=TEXT, linestyle=":")
    axes.set(title="MTP loss, same tokens", xlabel="nats a token; dotted: least possible")
    axes.set_xlim(0, 1.3 * max(values))


def _gradients(axes: Axes, found: Mapping[str, Any]) -> None:
    places = range(len(PARTS))
    for shift, name, color, hatch in ((-0.2, "patched", _PATCHED, ""), (0.2, "unpatched", _UNPATCHED, "//")):
        heights = [100 * ratio(found, name, part) for part in PARTS]
        axes.bar([place + shift for place in places], heights, 0.4, color=color, hatch=hatch, label=name)
    axes.set_xticks(list(places), ["embed-\nding", *(part.replace(" ", "\n") for part in PARTS[1:])])
    axes.set(title="MTP's gradient, of the main loss's", ylabel="% of its norm")
    axes.legend(frameon=False)


def _training(axes: Axes, found: Mapping[str, Any]) -> None:
    for name, color, marker in (("patched", _PATCHED, "o"), ("unpatched", _UNPATCHED, "s")):
        steps, losses = zip(*found[name]["training"], strict=True)
        for head, line in (("mtp.0", "-"), ("main", "--")):
            label = f"{'main' if head == 'main' else 'MTP'}, {name}"
            series = [loss[head] for loss in losses]
            axes.plot(steps, series, line, color=color, marker=marker, markersize=4, label=label)
    axes.set(title="training goes on", xlabel="steps", ylabel="nats a token, other tokens")
    axes.legend(frameon=False)
