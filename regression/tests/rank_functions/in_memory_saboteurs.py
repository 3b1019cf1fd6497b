"""In-memory bridges with right ideas of all conversions, each with one mistake in a method."""

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import numpy as np

from mtp_regression.in_memory.bridge import InMemoryBridge
from mtp_regression.in_memory.conversions import Array
from mtp_regression.in_memory.model import Parameter
from mtp_regression.in_memory.table import TABLE, Section
from mtp_regression.ranks.parallel import Parallel

# Mistakes of the way back.


class DropsARow(InMemoryBridge):
    """Has no row of `eh_proj.weight`, the first of its section."""

    table = MappingProxyType({**TABLE, Section.MTP: TABLE[Section.MTP][1:]})


class ExportsGateAsUp(InMemoryBridge):
    """Gives up's rows under the key of gate, and the reverse, in every export."""

    def exported(self) -> Iterator[tuple[str, Array]]:
        names = {"gate_proj": "up_proj", "up_proj": "gate_proj"}
        for key, tensor in super().exported():
            head, _, name = key.removesuffix(".weight").rpartition(".")
            other = names.get(name, name) if head == "mtp.layers.0.mlp" else name
            yield key.replace(f".{name}.", f".{other}."), tensor


# Mistakes that one check alone can see.


class LoadsNoCopies(InMemoryBridge):
    """Loads no norm that another rank has too, and exports from that rank."""

    def load(self, checkpoint: Path) -> None:
        super().load(checkpoint)
        if self.coordinates().tp:
            self.model["0/mtp.layers.0.enorm.weight"][...] = np.nan


class OtherOrder(InMemoryBridge):
    """Yields two tensors in another order on its last rank."""

    def stream(self) -> Iterator[tuple[str, Array]]:
        items = list(super().stream())
        if self.world.rank == self.world.size - 1:
            items[3:5] = items[4], items[3]
        yield from items


class SavesAndForgets(InMemoryBridge):
    """Zeroes a parameter when it has saved."""

    def save(self, folder: Path) -> None:
        super().save(folder)
        for name, parameter in self.parameters():
            if name.endswith("enorm.weight"):
                parameter[...] = 0


class LosesTheTokenizer(InMemoryBridge):
    def save(self, folder: Path) -> None:
        super().save(folder)
        if self.world.rank == 0:
            (folder / "tokenizer.json").unlink()


class PassesMtpThrough(InMemoryBridge):
    """Exports MTP as it was loaded, whatever the model holds."""

    def load(self, checkpoint: Path) -> None:
        super().load(checkpoint)
        self._loaded = {name: parameter.copy() for name, parameter in self.model.items() if "mtp" in name}

    def _whole(self, parameter: Parameter) -> Array:
        held, self.model = self.model, {**self.model, **self._loaded}
        whole = super()._whole(parameter)
        self.model = held
        return whole


class RemembersTheFirst(InMemoryBridge):
    """Loads nothing into the norms of MTP when it loads a second checkpoint."""

    def reload(self, checkpoint: Path) -> None:
        norms = {name: p.copy() for name, p in self.model.items() if "mtp" in name and "norm" in name}
        super().reload(checkpoint)
        for name, norm in norms.items():
            self.model[name][...] = norm


class KeepsTheFirstLayout(InMemoryBridge):
    """Exports in the layout of the first checkpoint, also when it has loaded a second."""

    def reload(self, checkpoint: Path) -> None:
        first = self._source
        super().reload(checkpoint)
        self._source = first


class SwapsExpertsOfACheckpoint(InMemoryBridge):
    """Gives two MTP experts each other's weights when it loads a Megatron checkpoint."""

    def load_megatron(self, folder: Path, checkpoint: Path, parallel: Parallel) -> dict[str, Array]:
        model = super().load_megatron(folder, checkpoint, parallel)
        one, other = (f"0/mtp.layers.0.mlp.experts.linear_fc2.weight{number}" for number in (0, 1))
        if one in model:
            model[one], model[other] = model[other], model[one]
        return model
