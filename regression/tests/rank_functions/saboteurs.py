"""Bridges that make one mistake each, on purpose: Megatron-Bridge with a piece of it replaced.

They are adapters; the suite must give each the verdict that its mistake deserves. Ranks import this
module by name. It runs in the rank's own process, so nothing needs to be put back.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from mtp_regression.adapters.megatron_bridge import MegatronBridge

MTP_EXPERTS = "mtp.layers.0.mlp.experts."
Stream = Iterable[tuple[str, torch.Tensor]]


class ExportSaboteur(MegatronBridge):
    """Changes the stream that both exports of the bridge draw from."""

    def load(self, checkpoint: Path) -> None:
        super().load(checkpoint)
        bridge_class = type(self._auto._model_bridge)
        upstream = bridge_class.stream_weights_megatron_to_hf

        def sabotaged(bridge: Any, *args: Any, **kwargs: Any) -> Iterator[tuple[str, torch.Tensor]]:
            yield from self.corrupt((name, tensor) for name, tensor in upstream(bridge, *args, **kwargs))

        bridge_class.stream_weights_megatron_to_hf = sabotaged

    def corrupt(self, stream: Stream) -> Stream:
        raise NotImplementedError


class DropsOneExpert(ExportSaboteur):
    def corrupt(self, stream: Stream) -> Stream:
        return (item for item in stream if not item[0].startswith(f"{MTP_EXPERTS}5."))


class SwapsTwoExperts(ExportSaboteur):
    def corrupt(self, stream: Stream) -> Stream:
        for name, tensor in stream:
            if name == MTP_EXPERTS + "gate_up_proj":
                swapped = tensor.clone()
                swapped[[2, 5]] = tensor[[5, 2]]
                yield name, swapped
            elif name.startswith(MTP_EXPERTS + "2."):
                yield name.replace("experts.2.", "experts.5."), tensor
            elif name.startswith(MTP_EXPERTS + "5."):
                yield name.replace("experts.5.", "experts.2."), tensor
            else:
                yield name, tensor


class SwapsGateAndUp(ExportSaboteur):
    def corrupt(self, stream: Stream) -> Stream:
        for name, tensor in stream:
            if name == MTP_EXPERTS + "gate_up_proj":
                yield name, torch.cat(tensor.chunk(2, dim=1)[::-1], dim=1)
            elif name == MTP_EXPERTS + "3.gate_proj.weight":
                yield MTP_EXPERTS + "3.up_proj.weight", tensor
            elif name == MTP_EXPERTS + "3.up_proj.weight":
                yield MTP_EXPERTS + "3.gate_proj.weight", tensor
            else:
                yield name, tensor


class ZeroesOneTensor(ExportSaboteur):
    def corrupt(self, stream: Stream) -> Stream:
        return ((name, tensor * 0 if name == "mtp.fc.weight" else tensor) for name, tensor in stream)


class FlipsOneBit(ExportSaboteur):
    def corrupt(self, stream: Stream) -> Stream:
        for name, tensor in stream:
            if name == "mtp.layers.0.mlp.gate.weight":
                tensor = tensor.clone()
                tensor.view(torch.int16)[3, 7] ^= 1
            yield name, tensor


class ChangesOneDtype(ExportSaboteur):
    def corrupt(self, stream: Stream) -> Stream:
        return ((name, tensor.float() if name == "mtp.norm.weight" else tensor) for name, tensor in stream)


class AddsOneKey(ExportSaboteur):
    def corrupt(self, stream: Stream) -> Stream:
        yield from stream
        yield "mtp.layers.0.embed_tokens.weight", torch.zeros(4, 4, dtype=torch.bfloat16)


class ExportsOneKeyTwice(ExportSaboteur):
    def corrupt(self, stream: Stream) -> Stream:
        for name, tensor in stream:
            if name == "mtp.fc.weight":
                yield name, tensor * 2
            yield name, tensor


class WritesPackedPerExpert(ExportSaboteur):
    def corrupt(self, stream: Stream) -> Stream:
        for name, tensor in stream:
            if name == MTP_EXPERTS + "gate_up_proj":
                for expert, gate_up in enumerate(tensor):
                    for projection, half in zip(("gate", "up"), gate_up.chunk(2), strict=True):
                        yield f"{MTP_EXPERTS}{expert}.{projection}_proj.weight", half.clone()
            elif name == MTP_EXPERTS + "down_proj":
                for expert, down in enumerate(tensor):
                    yield f"{MTP_EXPERTS}{expert}.down_proj.weight", down.clone()
            else:
                yield name, tensor


class LeavesNanIn(MegatronBridge):
    """Forgets one expert on import."""

    def load(self, checkpoint: Path) -> None:
        super().load(checkpoint)
        for name, parameter in self.parameters():
            if name.endswith("mtp.layers.0.mlp.experts.linear_fc1.weight1"):
                parameter.data.fill_(torch.nan)


class SwapsGateAndUpTwice(MegatronBridge):
    """Swaps gate and up on import, and swaps them back on export: the round trip is exact."""

    def load(self, checkpoint: Path) -> None:
        from megatron.bridge.models.conversion.param_mapping import GatedMLPMapping

        to_megatron, to_hf = GatedMLPMapping.hf_to_megatron, GatedMLPMapping.megatron_to_hf

        def swapped_import(mapping: Any, weights: dict[str, torch.Tensor], module: Any) -> Any:
            return to_megatron(mapping, {"gate": weights["up"], "up": weights["gate"]}, module)

        def swapped_export(mapping: Any, *args: Any) -> dict[str, torch.Tensor]:
            exported = to_hf(mapping, *args)
            names = list(exported)  # a gate, its up, and so on
            other = dict(zip(names[::2], names[1::2], strict=True))
            other |= {up: gate for gate, up in other.items()}
            return {name: exported[other[name]] for name in names}

        GatedMLPMapping.hf_to_megatron = swapped_import
        GatedMLPMapping.megatron_to_hf = swapped_export
        super().load(checkpoint)


class TooOldError(Exception):
    """What `Refuses` says of a checkpoint."""


class RaisesOnLoad(MegatronBridge):
    """Cannot load, on its last rank alone."""

    def load(self, checkpoint: Path) -> None:
        if torch.distributed.get_rank() == torch.distributed.get_world_size() - 1:
            raise TooOldError("written by an old release\nKeyError: not the error")
        super().load(checkpoint)


class Refuses(RaisesOnLoad):
    """The same, and declares that it is a refusal."""

    refusals = (TooOldError,)


class ReadsTheFiles(MegatronBridge):
    """Takes no notice of where the tensors of a generated checkpoint are to come from."""

    def read_from(self, tensor_of: Callable[[str], Any]) -> None:
        del tensor_of


class ReadsFilesAlone(MegatronBridge):
    """Cannot take generated checkpoints."""

    read_from = None  # type: ignore[assignment]
