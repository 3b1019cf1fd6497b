"""Writes the page."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from mtp_regression.page.content import FIRST, REASONS, content_of
from mtp_regression.reporting.document import write_whole


def write_page(
    reports: Sequence[Mapping[str, Any]],
    path: Path,
    *,
    titles: Sequence[str] = (),
    folders: Sequence[Path] = (),
) -> None:
    """Write reports as one HTML file, which loads nothing from anywhere.

    It shows a sentence of verdict, what failed and why, and a grid whose cells open what is known of each.
    Several reports stand side by side, and what became better or worse since the first is marked. All that
    reports and logs say is text there.

    Args:
        reports: One or several, as `docs/report.md` describes them.
        path: The file; its folder is made.
        titles: What each report is called; none takes the bridges' names.
        folders: The folder of each report: the ends of the ranks' logs are read from its `logs/`. None are
            read without.

    Raises:
        ValueError: There is no report, or not a title or folder for each.
    """
    import jinja2  # when a page is written: no run needs it
    from markupsafe import Markup, escape

    if not reports or any(each and len(each) != len(reports) for each in (titles, folders)):
        raise ValueError("a page has at least one report, and a title and a folder for each or none")
    templates = files("mtp_regression.page") / "templates"
    style, script = ((templates / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (templates / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def breakable(text: str) -> Markup:
        """Let long names break behind a dot or an underscore."""
        return Markup(re.sub(r"([._])(?=[A-Za-z])", r"\1<wbr>", str(escape(text))))  # noqa: S704

    environment.filters["breakable"] = breakable
    page = environment.get_template("page.html").render(
        page=content_of(reports, titles, folders),
        first=FIRST,
        reasons=REASONS,
        style=Markup(style),  # noqa: S704 - both are the kit's own files
        script=Markup(script),  # noqa: S704
        policy=f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'",
    )
    write_whole(path, page, errors="backslashreplace")  # JSON may hold half a character


def _digest(text: str) -> str:
    """Name a script or style in a content security policy, so that a browser runs no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
