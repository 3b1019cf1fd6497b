"""What is kept of a finding: a folder `data/NN-slug` with prose, a reproduction, a patch and an output.

`finding.toml` has the prose; `reproduction.py` is a script that fails where the finding is, and needs nothing
of the kit; `fix.patch` is against the newest release that has it; `output.txt` is what the script printed
there.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

DATA = Path(__file__).with_name("data")
MEGATRON_BRIDGE = "Megatron-Bridge"
DISTRIBUTIONS = {
    MEGATRON_BRIDGE: "megatron-bridge",
    "mcore-bridge": "mcore-bridge",
    "NeMo Automodel": "nemo-automodel",
    "vLLM": "vllm",
    "SGLang": "sglang",
    "transformers": "transformers",
}
"""What package indexes call the bridges, by name; transformers, which every other one needs, is last."""

_SHARED = re.compile(r"^from tiny import \w+\n", re.MULTILINE)
_IMPORT = re.compile(r"^(?:import|from) .*\n", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """One thing that a bridge does wrong; texts are Markdown.

    Attributes:
        number: Its number, which stays.
        title: What is wrong, in a few words.
        releases: Releases that have it, oldest first: of Megatron-Bridge those that others are patched like.
        commands: Lines of a shell that show it.
        note: What else there is to say of them; may be empty.
        seen: What is seen then.
        cause: File and function, and why; empty if it has not been looked for.
        proposed: What would mend it, in words; may be empty.
        upstream: Whether and where upstream has mended it.
        bridge: Whose it is.
        fails_with: A part of what the reproduction prints last where the finding is.
        ranks: Processes that the reproduction needs.
        no_reproduction: Why there is none; empty if there is one.
        no_patch: Why there is none; empty if there is one.
        patch_of: The number of the finding whose patch mends this one, too; 0 if it has its own, or none.
        shown_by: The file that shows it, where no scenario does: from the root of the repository.
        folder: Where its files are.
    """

    number: int
    title: str
    releases: Sequence[str]
    commands: str
    seen: str
    cause: str = ""
    note: str = ""
    proposed: str = ""
    upstream: str = ""
    bridge: str = MEGATRON_BRIDGE
    fails_with: str = ""
    ranks: int = 1
    no_reproduction: str = ""
    no_patch: str = ""
    patch_of: int = 0
    shown_by: str = ""
    folder: Path = DATA

    @property
    def patched_release(self) -> str:
        """The release that the patch is against: the newest that has the finding."""
        return self.releases[-1]

    @cached_property
    def reproduction(self) -> str:
        """The script, whole: with what makes its checkpoint; empty if there is none."""
        script = self._file("reproduction.py")
        if not _SHARED.search(script):
            return script
        own = _SHARED.sub("", script)
        shared = (DATA / "tiny.py").read_text(encoding="utf-8").partition('"""\n')[2]
        imports = sorted({*_IMPORT.findall(shared), *_IMPORT.findall(own)}, key=_place)
        first = "\n".join("".join(lines) for _, lines in groupby(imports, key=lambda line: _place(line)[0]))
        return f"{first}\n\n{_IMPORT.sub('', shared).strip()}\n\n\n{_IMPORT.sub('', own).strip()}\n"

    @cached_property
    def patch(self) -> str:
        """A unified diff of the release's source, from the root of its repository; empty if there is none."""
        if self.patch_of:
            (folder,) = DATA.glob(f"{self.patch_of:02}-*")
            return (folder / "fix.patch").read_text(encoding="utf-8")
        return self._file("fix.patch")

    @cached_property
    def output(self) -> str:
        """What the reproduction printed on `patched_release`; empty if there is no reproduction."""
        return self._file("output.txt")

    def _file(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(encoding="utf-8") if path.exists() else ""


def _place(line: str) -> tuple[bool, bool, str]:
    """Sort imports as people do: the standard library first, `import` before `from`."""
    return line.split()[1].partition(".")[0] not in sys.stdlib_module_names, line.startswith("from"), line


def read_findings() -> list[Finding]:
    """Read all findings, by number."""
    found = [
        Finding(folder=file.parent, **tomllib.loads(file.read_text(encoding="utf-8")))
        for file in DATA.glob("*/finding.toml")
    ]
    return sorted(found, key=lambda finding: finding.number)
