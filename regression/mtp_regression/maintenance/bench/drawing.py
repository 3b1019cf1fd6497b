"""Figures as SVG: read on light and on dark pages, and by those who do not see them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import matplotlib as mpl
from matplotlib.figure import Figure

TEXT, BLUE, ORANGE = "#808080", "#3d8fd1", "#d9730d"
"""Of a contrast of at least 3 to white and to black; what is told by colour is told by form as well."""
_STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "mtp-bridge-kit",
    "font.size": 9,
    "text.color": TEXT,
    "axes.edgecolor": TEXT,
    "axes.labelcolor": TEXT,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "hatch.color": "#ffffff",
}
_NOTHING = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@contextmanager
def drawn_alike() -> Iterator[None]:
    """Draw in the style of all figures inside the `with` block; write them there as well."""
    with mpl.rc_context(_STYLE):
        yield


def svg(figure: Figure, title: str, description: str) -> str:
    """Write a figure; the same bytes for the same numbers and release of matplotlib."""
    written = io.StringIO()
    figure.savefig(written, format="svg", transparent=True, metadata=_NOTHING)
    head, opening, rest = written.getvalue().partition("<svg ")
    tag, _, content = rest.partition(">")
    words = (escape(text, quote=False) for text in (title, description))
    told = "\n <title>{}</title>\n <desc>{}</desc>".format(*words)
    lines = f'{head}{opening}role="img" {tag}>{told}{content}'.splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"
