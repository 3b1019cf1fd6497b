"""The page of folders, from what is known of the newest release.

python -m mtp_regression.maintenance folders-page > docs/folders.md
"""

from __future__ import annotations

from collections.abc import Iterator

from mtp_regression.maintenance.folders.measure import FAILS, RIGHT
from mtp_regression.maintenance.folders.table import COLUMNS, INSPECT, KNOWN, LOADS, ROWS, Cells
from mtp_regression.maintenance.known import PATCHED, RELEASES, UPSTREAM, known_of_one

_HEAD = """# Folders

What a checkpoint's folder may look like, and what reads it how: transformers, Megatron-Bridge {release} as it
is (upstream) and patched, `mtpkit inspect`, and `mtpkit roundtrip`. `nox -s folders` makes every row again,
and fails if a cell is another, if the patched bridge does not carry a folder that loads, or one that is right
without the patch, and if it fails on another with an error that is not its own. `mtpkit generate ...
--folder KIND` and `--fault NAME` write these folders.

What decides:

- **What the index says stands.** A tensor is taken from the file that the index names, whatever other files
  hold. Where that file lacks it, or is not there, it is taken from the only other file of the folder that has
  it; if several have it, nothing says which counts, and it is a problem.
- **Without an index all files count**: the same tensor twice is a problem unless the bytes are the same, and
  a numbered series must be complete.
- **What is in the folder is its owner's**: links are followed wherever they lead, subfolders are read where
  the index names them.
- **What a file can make a reader do is refused**: a path of the index that leads out of the folder (`..`, an
  absolute path), a header that claims more than the file has, anything that is no regular file.
- **A note stops no load**: `inspect` tells it, and exits with 0. A problem does, with 1; a folder that cannot
  be read as a checkpoint exits with 2. The patch refuses both before anything is loaded.

**right**: the model's export, streamed and saved, is the checkpoint as it is usually stored (of transformers:
its parameters are). **wrong**: it is not, without an error. **fails**: an error, below. A round trip that
**runs** leaves the verdict to the bridge.
"""


def page() -> str:
    """Return the page as Markdown."""
    release = RELEASES[-1]
    known: dict[str, Cells] = known_of_one(KNOWN, release)
    lines = [_HEAD.format(release=release)]
    for title, loads in (("Folders that load", True), ("Folders that cannot be right", False)):
        rows = {name: known[name] for name in ROWS if (name in LOADS) is loads}
        lines += [f"## {title}", "", *_table(rows), "", *_said(rows, release), ""]
    return "\n".join(lines)


def _table(rows: dict[str, Cells]) -> Iterator[str]:
    yield f"| kind | what it is | {' | '.join(COLUMNS)} |"
    yield "|---" * (len(COLUMNS) + 2) + "|"
    for name, cells in rows.items():
        words = [_word(column, cells[column]) for column in COLUMNS]
        yield f"| `{name}` | {ROWS[name].description} | {' | '.join(words)} |"


def _word(column: str, cell: str) -> str:
    word, _, said = cell.partition(": ")
    if word == FAILS and column == PATCHED:
        return "refuses"
    return f"{word}: {said}" if said and word == "wrong" else word


def _said(rows: dict[str, Cells], release: str) -> Iterator[str]:
    """Say what `inspect` or else the patch says of each row, and what upstream fails with."""
    for name, cells in rows.items():
        said = _message(cells[INSPECT])
        if cells[PATCHED] != RIGHT and cells[INSPECT] == "consistent":
            said = _message(cells[PATCHED])
        upstream = _message(cells[UPSTREAM]) if cells[UPSTREAM].startswith(FAILS) else ""
        if said or upstream:
            yield f"- `{name}`: {_quoted(said)}" + (f"; {release}: {_quoted(upstream)}" if upstream else "")


def _message(cell: str) -> str:
    return cell.partition(": ")[2]


def _quoted(text: str) -> str:
    return f"`{text.replace('`', '')}`" if text else "nothing"
