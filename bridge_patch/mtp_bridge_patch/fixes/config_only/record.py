"""What an export needs to know of the checkpoint that a model was loaded from, when that is not at hand."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtp_bridge_patch.upstream.conversion import Conversion
from mtp_checkpoint.errors import CheckpointError
from mtp_checkpoint.files.untrusted import parse_object, read_json_of
from mtp_checkpoint.layouts.expert_layout import ExpertLayout
from mtp_checkpoint.layouts.keys import Block
from mtp_checkpoint.messages import shown

FILE_NAME = "mtp_bridge_patch.json"
"""Beside the `run_config.yaml` of a Megatron checkpoint. A file of its own: readers that are not patched
warn of a field of the YAML that they do not know."""
_ATTRIBUTE = "mtp_bridge_patch_record"


@dataclass(frozen=True)
class ExportRecord:
    """What is kept of a checkpoint.

    Attributes:
        decoder: Layout of the decoder's routed experts; ABSENT for a dense model.
        mtp: Layout of the MTP layers' routed experts.
        float32: Names of the checkpoint's F32 tensors.
    """

    decoder: ExpertLayout
    mtp: ExpertLayout
    float32: frozenset[str] = frozenset()

    @classmethod
    def of(cls, conversion: Conversion) -> "ExportRecord":
        """Return what is to be kept of the checkpoint of a conversion."""
        layouts = conversion.layouts or {}
        return cls(
            layouts.get(Block.DECODER, ExpertLayout.ABSENT),
            layouts.get(Block.MTP, ExpertLayout.ABSENT),
            frozenset(name for name, tensor in conversion.stored.items() if tensor.dtype == "F32"),
        )

    def put_on(self, model_configs: Iterable[Any]) -> None:
        """Keep the record on the configs of a model, for the exports of this process."""
        for config in model_configs:
            setattr(config, _ATTRIBUTE, self.to_json())  # text, for upstream takes a config's objects apart

    @classmethod
    def on(cls, model_config: Any) -> "ExportRecord | None":
        """Return the record that is kept on a model's config."""
        text = getattr(model_config, _ATTRIBUTE, None)
        return None if text is None else cls.from_json(text.encode(), "the record on the model's config")

    def write(self, folder: Path) -> None:
        """Store the record beside a Megatron checkpoint."""
        path, partial = folder / FILE_NAME, folder / f"{FILE_NAME}.{os.getpid()}"
        partial.write_text(self.to_json(), encoding="utf-8")
        partial.replace(path)

    @staticmethod
    def remove(folder: Path) -> None:
        """Remove what `write` stored, if there is anything."""
        (folder / FILE_NAME).unlink(missing_ok=True)

    @classmethod
    def read(cls, folder: Path) -> "ExportRecord | None":
        """Read what `write` stored; None if there is nothing.

        Raises:
            CheckpointError: It cannot be read, or is no such record.
        """
        raw = read_json_of(folder, FILE_NAME)
        return None if raw is None else cls.from_json(raw, str(folder / FILE_NAME))

    def to_json(self) -> str:
        """Return the record as JSON."""
        return json.dumps({"decoder": self.decoder, "mtp": self.mtp, "float32": sorted(self.float32)})

    @classmethod
    def from_json(cls, text: bytes, where: str) -> "ExportRecord":
        """Read what `to_json` made.

        Args:
            text: The JSON.
            where: What a message calls it.

        Raises:
            CheckpointError: It is no such record.
        """
        fields, problems = parse_object(text, where, strict=True)
        try:
            if not problems:
                names = list(fields["float32"])
                if names != fields["float32"] or not all(isinstance(name, str) for name in names):
                    raise TypeError("float32 is no list of names")
                return cls(ExpertLayout(fields["decoder"]), ExpertLayout(fields["mtp"]), frozenset(names))
        except (KeyError, TypeError, ValueError) as error:
            problems = [f"no record of layouts: {shown(str(error))}"]
        raise CheckpointError(where, problems)
