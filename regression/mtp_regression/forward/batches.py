"""What is put into the models: tokens, and images for those that see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

Batch = dict[str, torch.Tensor]
"""Arguments of a model's `forward`, by name: `input_ids` [batch, sequence], int64, and others."""

SEQUENCE = 80
"""More than one chunk of the gated delta rule, which has 64 tokens."""
_ROWS = 2
_IMAGES = ((1, 4, 4), (1, 4, 6))
"""Patches of the image in each row: in time, height and width."""
_IMAGE_AT = 10


def draw(config: Mapping[str, Any], seed: int) -> Batch:
    """Draw what suits a model: tokens, and images if it sees; see `text` and `images`."""
    return images(config, seed) if "vision_config" in config else text(config, seed)


def text(config: Mapping[str, Any], seed: int) -> Batch:
    """Draw tokens.

    Args:
        config: The checkpoint's `config.json`.
        seed: Another one gives other tokens.
    """
    dimensions = config.get("text_config", config)
    seen = (f"{name}_token_id" for name in ("image", "video", "vision_start", "vision_end"))
    ordinary = min([dimensions["vocab_size"], *(config[name] for name in seen if name in config)])
    draw = torch.Generator().manual_seed(seed)
    return {"input_ids": torch.randint(0, ordinary, (_ROWS, SEQUENCE), generator=draw)}


def images(config: Mapping[str, Any], seed: int) -> Batch:
    """Draw tokens, and an image for each row of them.

    Adds `pixel_values` [patches, channels * time * height * width], float32, and `image_grid_thw`
    [images, 3], int64.

    Args:
        config: The checkpoint's `config.json`, with `vision_config`.
        seed: Another one gives other tokens and images.
    """
    batch, vision = text(config, seed), config["vision_config"]
    draw = torch.Generator().manual_seed(seed + 1)
    for row, (time, height, width) in enumerate(_IMAGES):
        count = time * height * width // vision["spatial_merge_size"] ** 2
        tokens = [
            config["vision_start_token_id"],
            *count * [config["image_token_id"]],
            config["vision_end_token_id"],
        ]
        batch["input_ids"][row, _IMAGE_AT : _IMAGE_AT + len(tokens)] = torch.tensor(tokens)
    patches = sum(time * height * width for time, height, width in _IMAGES)
    values = vision["in_channels"] * vision["temporal_patch_size"] * vision["patch_size"] ** 2
    batch["pixel_values"] = torch.randn(patches, values, generator=draw)
    batch["image_grid_thw"] = torch.tensor(_IMAGES)
    return batch
