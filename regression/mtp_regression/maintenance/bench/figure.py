"""Draws what was measured, as SVG that is read on light and on dark pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from mtp_regression.maintenance.bench.drawing import BLUE, ORANGE, TEXT, drawn_alike, svg

_HERE, _OTHERS = BLUE, (ORANGE, "#2e9e6b", "#b05fc4", "#c9a227")
_MARKERS = "os^D"


def pairs(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw how many times as long each alternative takes, from the least to the most of all runs."""
    with drawn_alike():
        whole = Figure(figsize=(10.5, 0.5 * len(rows) + 1.1), layout="constrained")
        axes = whole.subplots()
        names = [plain(f"{row['what']}\nbeside {row['beside']}") for row in rows]
        places = range(len(rows) - 1, -1, -1)
        axes.barh(places, [row["ratio"] - 1 for row in rows], left=1, height=0.5, color=_HERE)
        for place, row in zip(places, rows, strict=True):
            here, there = row["here"]["seconds"], row["there"]["seconds"]
            ends = there[0] / here[-1], there[-1] / here[0]
            axes.plot(ends, (place, place), color=TEXT, marker="|")
            beyond = max(1, ends[1]), place  # not on the bar
            axes.annotate(f"{row['ratio']:.2g}", beyond, (4, 0), textcoords="offset points", va="center")
        axes.axvline(1, color=TEXT, linestyle=":")
        axes.set(
            xscale="log", xlabel="times as long as the kit takes: right of the dotted line the kit is faster"
        )
        axes.set_yticks(places, names, fontsize=8)
        return svg(whole, "Alternatives' seconds, divided by the kit's", _told(rows))


def growth(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw seconds against sizes, an axis a panel, both on scales of logarithms."""
    axes_of: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        axes_of.setdefault(row["axis"], []).append(row)
    with drawn_alike():
        columns = 3
        lines = -(-len(axes_of) // columns)
        whole = Figure(figsize=(10.5, 3.1 * lines), layout="constrained")
        panels = whole.subplots(lines, columns, squeeze=False).flat
        for (axis, own), panel in zip(axes_of.items(), panels, strict=False):
            for number, row in enumerate(own):
                color, marker = (_HERE, *_OTHERS)[number], _MARKERS[number % len(_MARKERS)]
                slope = "" if row["slope"] is None else f", slope {row['slope']:.2f}"
                panel.plot(
                    *zip(*row["points"], strict=True),
                    color=color,
                    marker=marker,
                    markersize=4,
                    label=f"{row['what']}{slope}",
                )
            panel.set(xscale="log", yscale="log", xlabel=axis, ylabel="seconds")
            panel.set_xticks(sorted({size for row in own for size, _ in row["points"]}))
            panel.xaxis.set_major_formatter(EngFormatter(places=0, sep=""))
            for scale in (panel.xaxis, panel.yaxis):
                scale.set_minor_formatter(NullFormatter())
            low, high = panel.get_ylim()
            panel.set_ylim(low, high * (high / low) ** (0.1 * len(own)))  # the legend is above the lines
            panel.legend(frameon=False, fontsize=7, loc="upper left")
        for panel in list(panels):
            panel.set_axis_off()
        slopes = (f"{row['axis']}, {row['what']}: slope {row['slope']}" for row in rows)
        return svg(whole, "Seconds as the work grows", "; ".join(slopes))


def plain(text: str) -> str:
    """Return a text of a page without what marks code."""
    return text.replace("`", "")


def _told(rows: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(
        plain(f"{row['what']}: {row['beside']} takes {row['ratio']:.2g} times as long") for row in rows
    )
