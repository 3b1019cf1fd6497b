"""Bridges whose mistakes no comparison of one export shows: what happens beside it, before and after it."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from saboteurs import ExportSaboteur, Stream, TooOldError

from mtp_regression.adapters.megatron_bridge import MegatronBridge
from mtp_regression.comparison.tensors import read_folder
from mtp_regression.ranks.parallel import Parallel


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
    """Waits for another rank's word when the consumer leaves the loop; none comes, on no rank."""

    def stream(self) -> Iterator[tuple[str, Any]]:
        try:
            yield from super().stream()
        except GeneratorExit:
            if torch.distributed.get_rank() == 0:  # no collective: the other rank's next one would answer it
                torch.distributed.recv(torch.empty(1), src=1)
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

    def load(self, checkpoint: Path) -> None:
        super().load(checkpoint)
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

    coordinates = None  # type: ignore[assignment]
    reload = None  # type: ignore[assignment]


class PassesThroughWithoutOracle(PassesMtpThrough):
    coordinates = None  # type: ignore[assignment]
    reload = None  # type: ignore[assignment]


class SwapsExpertsOfACheckpoint(MegatronBridge):
    """Gives two MTP experts of a rank each other's weights when it loads a Megatron checkpoint."""

    def load_megatron(self, folder: Path, checkpoint: Path, parallel: Parallel) -> Any:
        self.model = super().load_megatron(folder, checkpoint, parallel)
        held = dict(self.parameters())
        one, other = (held[f"0/mtp.layers.0.mlp.experts.linear_fc2.weight{number}"] for number in (0, 1))
        with torch.no_grad():
            one.data, other.data = other.data.clone(), one.data.clone()
        return self.model


class LoadsNoFinalNorm(MegatronBridge):
    """Loads a Megatron checkpoint but for one parameter, whose memory is as it was made."""

    def load_megatron(self, folder: Path, checkpoint: Path, parallel: Parallel) -> Any:
        from megatron.bridge.training import checkpointing

        def without(model: Any, *args: Any, **kwargs: Any) -> Any:
            state = upstream(model, *args, **kwargs)
            for part in state.values():
                part.pop("language_model.decoder.final_layernorm.weight", None)
            return state

        upstream = checkpointing._generate_model_state_dict
        with mock.patch.object(checkpointing, "_generate_model_state_dict", without):
            return super().load_megatron(folder, checkpoint, parallel)


class NoMegatronCheckpoint(MegatronBridge):
    """Knows no Megatron checkpoints."""

    load_megatron = None  # type: ignore[assignment]


class ComputesNothing(MegatronBridge):
    """Gives no logits, on any rank."""

    def logits(self, batch: Any) -> dict[str, Any]:
        super().logits(batch)
        return {}


class ComputesNoMtp(MegatronBridge):
    """Gives the main logits alone."""

    def logits(self, batch: Any) -> dict[str, Any]:
        return {"main": super().logits(batch)["main"]}


class ComputesAndForgets(MegatronBridge):
    """Zeroes a parameter when it has computed."""

    def logits(self, batch: Any) -> dict[str, Any]:
        found = super().logits(batch)
        next(parameter for name, parameter in self.parameters() if name.endswith("enorm.weight")).data.zero_()
        return found


class HasMtpAllTheSame(MegatronBridge):
    """Says that it leaves MTP out, and does not."""

    without_mtp = True
