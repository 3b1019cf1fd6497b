"""What is put into the models: tokens, and images for those that see."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

Batch = dict[str, torch.Tensor]
"""Arguments of a model's `forward`, by name: `input_ids` [batch, sequence], int64, and others."""

_LENGTHS = 88, 72
"""Tokens of each row: more than one chunk of the gated delta rule, which has 64; padding follows them."""
_IMAGE, _VIDEO = (1, 4, 4), (1, 4, 6)
"""Patches of the image in the first row, and of the video in the second: in time, height and width.

The video has one step of time: for more, transformers 5.3 asks for as many grids.
"""
_SEEN_AT = 10
STARTS = "cu_seq_lens_q"
"""Of a packed row: where each of its documents begins, and the row's length, int32."""


def draw(config: Mapping[str, Any], seed: int) -> Batch:
    """Draw what suits a model: tokens, and images if it sees; see `text` and `images`."""
    return images(config, seed) if "vision_config" in config else text(config, seed)


def text(config: Mapping[str, Any], seed: int) -> Batch:
    """Draw tokens: rows of different lengths, and behind them padding.

    The padding is drawn like the tokens, so that it matters to a model that takes notice of it. Adds
    `attention_mask`, which is 0 there and 1 elsewhere, as the `input_ids`.

    Args:
        config: The checkpoint's `config.json`.
        seed: Another one gives other tokens.
    """
    dimensions = config.get("text_config", config)
    seen = (f"{name}_token_id" for name in ("image", "video", "vision_start", "vision_end"))
    ordinary = min([dimensions["vocab_size"], *(config[name] for name in seen if name in config)])
    draw = torch.Generator().manual_seed(seed)
    lengths, longest = torch.tensor(_LENGTHS), max(_LENGTHS)
    return {
        "input_ids": torch.randint(0, ordinary, (len(lengths), longest), generator=draw),
        "attention_mask": (torch.arange(longest) < lengths[:, None]).long(),
    }


def padded_before(config: Mapping[str, Any], seed: int) -> Batch:
    """Draw as `draw` does, and move each row's padding before its tokens."""
    batch = draw(config, seed)
    for name in ("input_ids", "attention_mask"):
        rows = zip(batch[name], batch["attention_mask"].sum(dim=1).tolist(), strict=True)
        batch[name] = torch.stack([row.roll(-length) for row, length in rows])
    return batch


def positioned(config: Mapping[str, Any], seed: int) -> Batch:
    """Draw as `draw` does, and positions: in time, height and width apart, each with steps of 0 to 2.

    Adds `position_ids` [3, batch, sequence], int64.
    """
    batch = draw(config, seed)
    steps = torch.randint(
        0, 3, (3, *batch["input_ids"].shape), generator=torch.Generator().manual_seed(seed + 2)
    )
    return batch | {"position_ids": steps.cumsum(dim=-1)}


def packed(config: Mapping[str, Any], seed: int) -> Batch:
    """Draw as `draw` does, and put the rows into one, one document after another, without padding.

    `input_ids` are [1, tokens], and instead of `attention_mask` there is `cu_seq_lens_q` [documents + 1].
    """
    batch = draw(config, seed)
    real = batch.pop("attention_mask").bool()
    ends = real.sum(dim=1).cumsum(dim=0)
    starts = torch.cat([torch.zeros(1), ends]).int()
    return batch | {"input_ids": batch["input_ids"][real][None], STARTS: starts}


def images(config: Mapping[str, Any], seed: int) -> Batch:
    """Draw tokens, an image for the first row of them, and for the second a video.

    Adds `pixel_values` [patches, channels * time * height * width], float32, and `image_grid_thw`
    [images, 3], int64, and the same of the video, `pixel_values_videos` and `video_grid_thw`.

    Args:
        config: The checkpoint's `config.json`, with `vision_config`.
        seed: Another one gives other tokens, images and videos.
    """
    batch, vision = text(config, seed), config["vision_config"]
    generator = torch.Generator().manual_seed(seed + 1)
    size = vision["in_channels"] * vision["temporal_patch_size"] * vision["patch_size"] ** 2
    for row, (kind, grid) in enumerate((("image", _IMAGE), ("video", _VIDEO))):
        patches = math.prod(grid)
        tokens = [
            config["vision_start_token_id"],
            *(patches // vision["spatial_merge_size"] ** 2) * [config[f"{kind}_token_id"]],
            config["vision_end_token_id"],
        ]
        batch["input_ids"][row, _SEEN_AT : _SEEN_AT + len(tokens)] = torch.tensor(tokens)
        pixels = torch.randn(patches, size, generator=generator)
        batch["pixel_values" if kind == "image" else "pixel_values_videos"] = pixels
        batch[f"{kind}_grid_thw"] = torch.tensor([grid])
    return batch
