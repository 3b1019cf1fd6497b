"""transformers, as a control: it has no MTP, and leaves `mtp.*` out of what it loads and saves."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import transformers
from torch.nn import Module

from mtp_regression.ranks.parallel import Parallel


class Transformers:
    """`from_pretrained` and `save_pretrained` of the class that the checkpoint names."""

    bridge = "transformers"
    release = metadata.version("transformers")
    engine = "none"
    declared = resources.files(__package__).joinpath("transformers.toml")
    grid = (Parallel(),)

    def build(self, checkpoint: Path, parallel: Parallel) -> Any:
        """Hold nothing yet: `from_pretrained` builds and loads at once."""
        del checkpoint, parallel
        return Module()

    def load(self, checkpoint: Path) -> None:
        """Load the checkpoint, with the dtypes that it has."""
        named = transformers.AutoConfig.from_pretrained(str(checkpoint)).architectures[0]
        self.model = getattr(transformers, named).from_pretrained(str(checkpoint), dtype="auto")

    def parameters(self) -> Iterator[tuple[str, Any]]:
        """Yield the parameters."""
        for name, parameter in self.model.named_parameters():
            yield f"0/{name}", parameter

    def save(self, folder: Path) -> None:
        """Save through `save_pretrained`."""
        self.model.save_pretrained(str(folder))
