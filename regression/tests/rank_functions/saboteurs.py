"""Bridges that make one mistake each, on purpose: Megatron-Bridge with a piece of it replaced.

They are adapters; the suite must give each the verdict that its mistake deserves. Ranks import this
module by name. It runs in the rank's own process, so nothing needs to be put back.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from mtp_regression.adapters.megatron_bridge import MegatronBridge
from mtp_regression.comparison.tensors import read_folder
from mtp_regression.ranks.parallel import Parallel

MTP_EXPERTS = "mtp.layers.0.mlp.experts."
Stream = Iterable[tuple[str, torch.Tensor]]


class ExportSaboteur(MegatronBridge):
    """Changes the stream that both exports of the bridge draw from."""

    def load(self, checkpoint: Path, parallel: Parallel) -> None:
        super().load(checkpoint, parallel)
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

    def load(self, checkpoint: Path, parallel: Parallel) -> None:
        super().load(checkpoint, parallel)
        for name, parameter in self.parameters():
            if name.endswith("mtp.layers.0.mlp.experts.linear_fc1.weight1"):
                parameter.data.fill_(torch.nan)


class SwapsGateAndUpTwice(MegatronBridge):
    """Swaps gate and up on import, and swaps them back on export: the round trip is exact."""

    def load(self, checkpoint: Path, parallel: Parallel) -> None:
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
        super().load(checkpoint, parallel)


class TooOldError(Exception):
    """What `Refuses` says of a checkpoint."""


class RaisesOnLoad(MegatronBridge):
    """Cannot load, on its last rank alone."""

    def load(self, checkpoint: Path, parallel: Parallel) -> None:
        if torch.distributed.get_rank() == parallel.ranks - 1:
            raise TooOldError("written by an old release\nKeyError: not the error")
        super().load(checkpoint, parallel)


class Refuses(RaisesOnLoad):
    """The same, and declares that it is a refusal."""

    refusals = (TooOldError,)


class ReusesOneBuffer(ExportSaboteur):
    """Yields one buffer again and again for tensors of one shape and dtype."""

    def corrupt(self, stream: Stream) -> Stream:
        buffers: dict[Any, torch.Tensor] = {}
        for name, tensor in stream:
            buffer = buffers.setdefault((tensor.shape, tensor.dtype), torch.empty_like(tensor))
            yield name, buffer.copy_(tensor)


class DestroysTheModel(MegatronBridge):
    """Zeroes a parameter when the stream has ended."""

    def stream(self) -> Iterator[tuple[str, Any]]:
        yield from super().stream()
        for name, parameter in self.parameters():
            if name.endswith("mtp.layers.0.enorm.weight"):
                parameter.data.zero_()


class OtherOrder(MegatronBridge):
    """Yields two tensors in another order on its last rank."""

    def stream(self) -> Iterator[tuple[str, Any]]:
        items = list(super().stream())
        if torch.distributed.get_rank() == torch.distributed.get_world_size() - 1:
            items[3:5] = items[4], items[3]
        yield from items


class HangsWhenLeft(MegatronBridge):
    """Wants all ranks together once more when the consumer leaves the loop, and one rank does not come."""

    def stream(self) -> Iterator[tuple[str, Any]]:
        try:
            yield from super().stream()
        except GeneratorExit:
            if torch.distributed.get_rank() == 0:
                torch.distributed.barrier()
            raise


class RaisesLate(MegatronBridge):
    """Raises in the stream on rank 0, while rank 1 is still busy with its parameters."""

    def parameters(self) -> Iterator[tuple[str, Any]]:
        if torch.distributed.get_rank() == 1:
            time.sleep(1)
        yield from super().parameters()

    def stream(self) -> Iterator[tuple[str, Any]]:
        if torch.distributed.get_rank() == 0:
            raise TooOldError("no stream")
        yield from super().stream()


class DiesInClose(MegatronBridge):
    """Raises when all stages have ended."""

    def close(self) -> None:
        super().close()
        raise TooOldError("cannot close")


class PassesMtpThrough(ExportSaboteur):
    """Copies MTP from the files of the checkpoint, whatever the model holds."""

    def load(self, checkpoint: Path, parallel: Parallel) -> None:
        super().load(checkpoint, parallel)
        self._first = {name: tensor.to_torch() for name, tensor in read_folder(checkpoint).items()}

    def corrupt(self, stream: Stream) -> Stream:
        return ((name, self._first[name] if name.startswith("mtp.") else tensor) for name, tensor in stream)


class RemembersTheFirst(MegatronBridge):
    """Loads nothing into the norms of MTP when it loads a second checkpoint."""

    def reload(self, checkpoint: Path) -> None:
        norms = {
            name: p.detach().clone() for name, p in self.parameters() if "mtp" in name and "norm" in name
        }
        super().reload(checkpoint)
        for name, parameter in self.parameters():
            if name in norms:
                parameter.data.copy_(norms[name])


class NoOracle(MegatronBridge):
    """Does not tell of its place in the layout, nor load a second time."""

    coordinates = None
    reload = None


class PassesThroughWithoutOracle(PassesMtpThrough):
    coordinates = None
    reload = None


class ReadsTheFiles(MegatronBridge):
    """Takes no notice of where the tensors of a generated checkpoint are to come from."""

    def read_from(self, tensor_of: Callable[[str], Any]) -> None:
        del tensor_of


class ReadsFilesAlone(MegatronBridge):
    """Cannot take generated checkpoints."""

    read_from = None  # type: ignore[assignment]
