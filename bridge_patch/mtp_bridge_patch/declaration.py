"""What a checkpoint's `config.json` declares of its routed experts and MTP layers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtp_bridge_patch.untrusted import CheckpointError, parse_object, read_json_of

CONFIG_NAME = "config.json"


@dataclass(frozen=True)
class Declaration:
    """What a config says; None for what it does not say.

    Attributes:
        num_experts: Routed experts of a layer; 0 for a dense model.
        hidden_size: Columns of gate and up projections.
        moe_intermediate_size: Rows of gate and up projections.
        num_hidden_layers: Decoder layers.
        mtp_layers: MTP layers (`mtp_num_hidden_layers`); 0 where the field is missing.
    """

    num_experts: int | None = None
    hidden_size: int | None = None
    moe_intermediate_size: int | None = None
    num_hidden_layers: int | None = None
    mtp_layers: int | None = None

    @classmethod
    def of(cls, config: object) -> "Declaration":
        """Read a config: a mapping, or an object with attributes such as a `PretrainedConfig`.

        The fields are those of `text_config` where there is one.
        """
        fields = _fields(config)
        text = _fields(fields.get("text_config", fields))
        dense = "intermediate_size" in text and "num_experts" not in text
        return cls(
            num_experts=0 if dense else _size(text, "num_experts"),
            hidden_size=_size(text, "hidden_size"),
            moe_intermediate_size=_size(text, "moe_intermediate_size"),
            num_hidden_layers=_size(text, "num_hidden_layers"),
            mtp_layers=_size(text, "mtp_num_hidden_layers") or 0,
        )

    @classmethod
    def read(cls, folder: Path) -> "Declaration | None":
        """Read a folder's `config.json`; None if there is none.

        Raises:
            CheckpointError: It cannot be read, is (through a link) outside the folder, or is no JSON object;
                or its `text_config` is none.
        """
        if (raw := read_json_of(folder, CONFIG_NAME)) is None:
            return None
        where = str(folder / CONFIG_NAME)
        fields, problems = parse_object(raw, where)
        if not isinstance(fields.get("text_config", {}), dict):
            problems.append("its text_config is no JSON object")
        if problems:
            raise CheckpointError(where, problems)
        return cls.of(fields)


def _fields(config: object) -> Mapping[str, Any]:
    return config if isinstance(config, Mapping) else vars(config)


def _size(fields: Mapping[str, Any], name: str) -> int | None:
    value = fields.get(name)
    return value if type(value) is int and value >= 0 else None
