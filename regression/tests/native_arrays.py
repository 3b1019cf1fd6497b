"""What the oracle expects and what a checkpoint stores, as arrays, for its tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mtp_regression.comparison.tensors import read_folder
from mtp_regression.oracle.parameters import native_parameters
from mtp_regression.ranks.parallel import Coordinates, Parallel

Arrays = dict[str, np.ndarray]

Q35, Q36 = "qwen3.5-35b-a3b", "qwen3.6-35b-a3b"
TEXT = "model.language_model."
ONE = (Parallel(), Coordinates())
SECOND_OF_TWO = (Parallel(tp=2), Coordinates(tp=1))


def expected(folder: Path, parallel: Parallel, rank: Coordinates, **options: Any) -> Arrays:
    config = json.loads((folder / "config.json").read_text())
    recipes = native_parameters(read_folder(folder), config, parallel, rank, **options)
    return {name: recipe() for name, recipe in recipes.items()}


def stored(folder: Path) -> Arrays:
    return {name: tensor.array() for name, tensor in read_folder(folder).items()}
