"""The page of the table of fields, from what is known of each release.

python -m mtp_regression.maintenance config-page > docs/config.md
"""

from __future__ import annotations

from collections.abc import Iterator

from mtp_regression.maintenance.fields.changes import MODELS, Row, rows
from mtp_regression.maintenance.fields.kinds import section
from mtp_regression.maintenance.fields.table import HONOURS, IGNORES, KNOWN, REFERENCE, Cells
from mtp_regression.maintenance.known import OTHERS, PATCHED, RELEASES, UPSTREAM, known_of_all

_COLUMNS = tuple((release, column) for release in RELEASES for column in (UPSTREAM, PATCHED))

_NAMED = 8
"""Fields that are named with an error; of more the number is."""

Known = dict[str, dict[str, Cells]]
"""Of each release the cells of each row, by its name."""

_HEAD = """# What each release makes of `config.json`

`nox -s forward` gives each field another value in a tiny checkpoint, whose tensors have the shapes that the
value asks for, loads it on one rank, and compares the logits, of the decoder and of MTP, with transformers'.
It fails if any cell is another than this page's (`regression/mtp_regression/maintenance/fields/known/`).

**transformers** honours a change (its logits are others than before), ignores it, or refuses it. A release
**agrees** with it, **differs** without a word, **refuses** with an error that names a changed field, or
**fails** with one that does not. Where transformers refuses, a release may compute something that nothing can
be compared with. A field without a value is taken away. MoE is Qwen3.6-35B-A3B, dense 27B; of dense and of
text-only models the fields of the language model are changed. Kinds of batches are at the end.
"""


def page() -> str:
    """Return the page as Markdown."""
    known: Known = known_of_all(KNOWN)
    lines = [_HEAD, *_table(known), "", *_unread(known), "", *_others(known), "", *_errors(known)]
    lines += ["", *section()]
    return "\n".join(lines) + "\n"


def _table(known: Known) -> Iterator[str]:
    heads = ["field", "value", "models", REFERENCE, *(f"{release} {column}" for release, column in _COLUMNS)]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for (field, value, cells), models in _merged(known).items():
        if not _is_unread(cells):
            whose = "all" if len(models) == len(MODELS) else ", ".join(models)
            yield f"| {field} | {value} | {whose} | {' | '.join(cells)} |"


def _merged(known: Known) -> dict[tuple[str, str, tuple[str, ...]], list[str]]:
    """Return the models of every field, value and cells, in the order of the rows."""
    merged: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for row in rows():
        if row.field:
            cells = [known[RELEASES[-1]][row.name][REFERENCE]]
            cells += [known[release][row.name][column] for release, column in _COLUMNS]
            words = tuple(cell.partition(":")[0] for cell in cells)
            merged.setdefault((_short(row.field), _value(row), words), []).append(row.model)
    return merged


def _is_unread(cells: tuple[str, ...]) -> bool:
    """Tell whether transformers takes no notice, and no release either."""
    return cells[0] == IGNORES and set(cells[1:]) == {"agrees"}


def _unread(known: Known) -> Iterator[str]:
    """List the fields without an effect on the logits, here as there."""
    read = {field for (field, _, cells) in _merged(known) if cells[0] == HONOURS}
    unread = dict.fromkeys(
        f"`{field}` ({value})" if field in read else f"`{field}`"
        for (field, value, cells) in _merged(known)
        if _is_unread(cells)
    )
    yield "## Without an effect\n"
    yield "No logit depends on these, in transformers or in any of the releases, as they are or patched:\n"
    yield ", ".join(unread) + "."


def _others(known: Known) -> Iterator[str]:
    yield "## Other releases\n"
    for release, like in OTHERS.items():
        different = [
            f"{name}, {column}: {known[release][name][column].partition(':')[0]}"
            for name in known[release]
            for column in (UPSTREAM, PATCHED)
            if known[release][name][column].partition(":")[0] != known[like][name][column].partition(":")[0]
        ]
        yield f"- {release} is as {like}" + (f", but for: {'; '.join(different)}" if different else "")


def _errors(known: Known) -> Iterator[str]:
    """List the errors, the same one once, with the fields and the releases that have it."""
    yield "## Errors\n"
    fields: dict[str, list[str]] = {}
    places: dict[str, list[str]] = {}
    for release, column in _COLUMNS:
        for row in rows():
            _, colon, error = known[release][row.name][column].partition(": ")
            if colon:
                fields.setdefault(error, []).append(_short(row.field))
                places.setdefault(error, []).append(f"{release} {column}")
    for error, names in fields.items():
        seen = dict.fromkeys(places[error])
        where = "all" if len(seen) == len(_COLUMNS) else ", ".join(seen)
        different = [*dict.fromkeys(names)]
        what = ", ".join(different) if len(different) <= _NAMED else f"{len(different)} fields"
        yield f"- {what} ({where}): `{error.replace('`', '')}`"


def _short(field: str) -> str:
    return field.removeprefix("text_config.")


def _value(row: Row) -> str:
    """Say what is changed: the value alone if it is the field's, else every change."""
    values = dict(change.split("=", 1) for change in row.changes)
    if list(values) == [row.field]:
        text = values[row.field]
    else:
        text = ", ".join(f"{name.rpartition('.')[2]}={value}" for name, value in values.items())
    return f"`{text}`" if text else "none"
