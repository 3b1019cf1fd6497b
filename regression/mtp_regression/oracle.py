"""What every rank must hold after an import, by Megatron-Core's own layout.

Written from Megatron-Core's definition of its parameters, and from no bridge's code: a round trip is
blind to an import and an export that make the same mistake.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mtp_fixtures.geometry import Dense, TextGeometry
from mtp_fixtures.schema import MTP_PREFIX, TEXT_PREFIX
from mtp_regression.compare import Tensors
from mtp_regression.parallel import Coordinates, Parallel
from mtp_regression.tensors import RawTensor


def routed_experts(
    source: Tensors, text: TextGeometry, parallel: Parallel, rank: Coordinates
) -> dict[str, RawTensor]:
    """Cut the routed experts that one rank must hold out of a checkpoint.

    Expert-parallel rank r of n holds the r-th n-th of the global experts, numbered from 0 on each
    rank. Of each it holds, for expert-tensor-parallel rank t of m,

    - `linear_fc1.weight{e}`: the t-th m-th of the gate rows above the t-th m-th of the up rows,
      [2 * width / m, hidden] (the gated unit halves its local output: Megatron-Core `mlp.py`);
    - `linear_fc2.weight{e}`: the t-th m-th of down's columns, [hidden, width / m] (row-parallel).

    Decoder layers are dealt to model chunks in order: chunk v of pipeline stage p, of V and P, holds
    the (v * P + p)-th share; MTP layers are on the last chunk of the last stage.

    Args:
        source: The checkpoint's tensors, in any expert layout.
        text: The language model's dimensions; a dense one has no routed experts.
        parallel: The parallel layout.
        rank: The rank's place in it.

    Returns:
        Parameters by name, "{chunk}/decoder.layers.{layer}.mlp.experts.linear_fc1.weight{expert}" and
        "{chunk}/mtp.layers.{layer}.mlp.experts...", where chunk, layer and expert count from 0 on the
        rank.
    """
    expected: dict[str, RawTensor] = {}
    if isinstance(text.mlp, Dense):
        return expected
    local = text.mlp.num_experts // parallel.ep
    for target, prefix in _layers(text, parallel, rank):
        experts = _ExpertSource(source, prefix + "mlp.experts.")
        for expert in range(local):
            gate, up, down = experts.projections(rank.ep * local + expert)
            fc1 = np.concatenate([_share(half, rank.etp, parallel.etp, axis=0) for half in (gate, up)])
            fc2 = _share(down, rank.etp, parallel.etp, axis=1)
            name = f"{target}.mlp.experts."
            expected[f"{name}linear_fc1.weight{expert}"] = RawTensor.from_array(fc1)
            expected[f"{name}linear_fc2.weight{expert}"] = RawTensor.from_array(fc2)
    return expected


def _layers(text: TextGeometry, parallel: Parallel, rank: Coordinates) -> Iterator[tuple[str, str]]:
    """Yield (native name, checkpoint prefix) of every layer on the rank."""
    share = text.num_hidden_layers // (parallel.pp * parallel.vpp)
    for chunk in range(parallel.vpp):
        first = (chunk * parallel.pp + rank.pp) * share
        for layer in range(share):
            yield f"{chunk}/decoder.layers.{layer}", f"{TEXT_PREFIX}layers.{first + layer}."
    if rank.pp == parallel.pp - 1:
        for layer in range(text.mtp_num_hidden_layers):
            yield f"{parallel.vpp - 1}/mtp.layers.{layer}", f"{MTP_PREFIX}layers.{layer}."


class _ExpertSource:
    """Reads single experts of one layer, whatever the layout they are stored in."""

    def __init__(self, source: Tensors, prefix: str) -> None:
        self._source = source
        self._prefix = prefix
        self._packed = prefix + "gate_up_proj" in source

    def projections(self, expert: int) -> tuple[NDArray[np.generic], ...]:
        """Return an expert's gate [width, hidden], up [width, hidden] and down [hidden, width]."""
        if self._packed:
            gate_up = self._source[self._prefix + "gate_up_proj"].array()[expert]
            down = self._source[self._prefix + "down_proj"].array()[expert]
            return *np.split(gate_up, 2), down
        return tuple(
            self._source[f"{self._prefix}{expert}.{projection}_proj.weight"].array()
            for projection in ("gate", "up", "down")
        )


def _share(array: NDArray[np.generic], index: int, count: int, *, axis: int) -> NDArray[np.generic]:
    shares: list[NDArray[np.generic]] = np.split(array, count, axis=axis)
    return shares[index]


def is_routed_expert(name: str) -> bool:
    """Whether a native parameter, named as above, belongs to a routed expert."""
    return ".mlp.experts." in name
