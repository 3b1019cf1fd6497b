"""What the suite asks of a bridge, as one rank sees it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from mtp_regression.ranks.parallel import Coordinates, Parallel


class AdapterError(ValueError):
    """A name that is no adapter's; the message says why."""


class Adapter(Protocol):
    """A bridge under test. One object serves one case on one rank; all ranks make every call, in one order.

    The object is made without arguments, on each rank. By then `torch.distributed` is initialised with all
    ranks of the case (gloo on CPUs, NCCL on GPUs), and RANK, WORLD_SIZE and LOCAL_RANK are set; on CPUs
    torch has one thread. Model-parallel groups are the adapter's to make in `load`, and to destroy in
    `close`.

    An exception of a method is the case's crash, in the load or in the export; the report has its rank,
    class, message and traceback. Ranks that wait for the one that raised are ended with it.

    Attributes:
        bridge: Name of the bridge, as declared exceptions spell it.
        release: Its release.
        engine: Where the modules' parameters come from, such as a release of TransformerEngine.

    Three attributes may be left out. `vocab_divisor`, of an adapter that pads the vocabulary, is Megatron's
    `make_vocab_size_divisible_by`. `refusals` are classes of exceptions by which the bridge says, before it
    loads anything, that it cannot carry the checkpoint; the patch's own are known without it. `without_mtp`
    is true of an adapter whose model is built without the checkpoint's MTP layers (Megatron-Core's
    `mtp_num_layers` is None): what it exports is to be the checkpoint without `mtp.*`, with a configuration
    that declares no MTP layer.

    The methods of `MayHave` may be left out as well.
    """

    bridge: str
    release: str
    engine: str

    def load(self, checkpoint: Path, parallel: Parallel) -> None:
        """Build this rank's part of the model, fill every parameter with NaN, then load the checkpoint.

        The NaNs show what the load leaves out: uninitialised memory may hold anything.

        Args:
            checkpoint: Folder of safetensors files with `config.json`; nothing of it may be changed.
            parallel: The parallel layout; its sizes multiply to no more than the ranks that there are.

        Raises:
            Exception: Of one of the classes `refusals`: the verdict is `refused`. Any other: `crash-import`.
        """

    def parameters(self) -> Iterator[tuple[str, Any]]:
        """Yield the name and the `torch.Tensor` of every parameter that this rank holds.

        A name is "{chunk}/{name}": the number of the model chunk on this rank, from 0, and Megatron-Core's
        name in that chunk, without the wrappers' `module.` and `language_model.` and the `mtp_model_layer.`
        of MTP layers, such as "0/mtp.layers.0.mlp.experts.linear_fc1.weight7". Layers and experts are
        numbered from 0 on the rank. The tensor is the rank's shard, in the model's dtype, on any device, and
        the parameter itself or a view of it: the suite writes new values into it.
        """

    def stream(self) -> Iterator[tuple[str, Any]]:
        """Yield the whole model in the checkpoint's format, on every rank: keys and `torch.Tensor`s.

        Shapes and dtypes are to be those of the checkpoint that was loaded; tensors may be on any device.
        """

    def save(self, folder: Path) -> None:
        """Write the model into a folder, in the checkpoint's format.

        Args:
            folder: The same for all ranks; it does not exist. Rank 0 reads it when all ranks have returned.
        """

    def warnings(self) -> list[str]:
        """Return the messages that the bridge has logged as warnings so far."""

    def close(self) -> None:
        """Give back what `load` took, so that another case can run in the process."""


class MayHave(Protocol):
    """What an adapter may have beside `Adapter`; a stage that needs what is not there does not run."""

    def coordinates(self) -> Coordinates:
        """Return this rank's place in the parallel layout; called after `load`.

        An adapter has it if its model is Megatron-Core's: then the values of all parameters are known.
        """

    def reload(self, checkpoint: Path) -> None:
        """Load another checkpoint into the model that is there, as reinforcement learning does.

        Args:
            checkpoint: Has the shapes of the first, and perhaps MTP experts in another layout. What is
                exported from here on is to be in the layout of this one.
        """

    def logits(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Compute logits, in float32 on a CPU, with the values of the parameters as they are.

        Args:
            batch: Arguments of the model's `forward` by name, `torch.Tensor`s that transformers names alike:
                `input_ids` [batch, sequence], int64; `attention_mask`, the same, 0 for the padding behind a
                row and 1 elsewhere; for models that see also `pixel_values` and `image_grid_thw`, and those
                of videos. A check may give `position_ids` [3, batch, sequence] as well, or, instead of
                `attention_mask`, `cu_seq_lens_q`: `input_ids` is then one row of documents one after another,
                and this where each begins, and the row's length.

        Returns:
            "main", and "mtp.{i}" for each MTP layer, from 0: float32 [batch, sequence, vocabulary], with the
            vocabulary of all tensor-parallel ranks. On ranks that have none, such as those of other pipeline
            stages, nothing. The first MTP layer takes the token after each position, and 0 after the last.
            What is given for padding is not looked at.
        """

    def save_megatron(self, folder: Path) -> None:
        """Save the model as Megatron's own checkpoint, from which another layout can load it.

        Args:
            folder: The same for all ranks; it does not exist.
        """

    def load_megatron(self, folder: Path, checkpoint: Path, parallel: Parallel) -> None:
        """Build the model and load it from Megatron's checkpoint; called instead of `load`.

        Args:
            folder: What `save_megatron` has written, of another object, in another layout.
            checkpoint: What that object had loaded; exports are to have its format.
            parallel: The layout in which to build the model.
        """

    def read_from(self, tensor_of: Callable[[str], Any]) -> None:
        """Take the tensors of the checkpoint that is loaded next from here; they are on no disk.

        Called before `load`, whose folder has `config.json`, tokenizer, index and safetensors files with true
        headers, but holes in the place of the tensors' data.

        Args:
            tensor_of: Makes the `torch.Tensor` of a key, on the CPU; what is not held on to is freed.

        Raises:
            KeyError: By `tensor_of`: the checkpoint has no such key.
        """


def find(name: str) -> type[Adapter]:
    """Import an adapter class.

    Args:
        name: "package.module:Class".

    Raises:
        AdapterError: The name is not of that form, the module has no such class, or the class lacks a method.
        ImportError: There is no such module, or it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise AdapterError(f"an adapter is named package.module:Class, not {name!r}")
    found = getattr(importlib.import_module(module), attribute, None)
    if not isinstance(found, type):
        raise AdapterError(f"{module} has no class {attribute}")
    missing = _missing(found, Adapter)
    if missing:
        raise AdapterError(f"{name} is no adapter; it has no {', '.join(missing)}")
    return cast(type[Adapter], found)


class Examined(NamedTuple):
    """What is known of an adapter without making one.

    Attributes:
        problem: Why `find` does not find it; empty if it does.
        lacks: The methods of `MayHave` that it does not have.
    """

    problem: str
    lacks: frozenset[str] = frozenset()


def examine(name: str) -> Examined:
    """Import an adapter class, and see what it has."""
    try:
        found = find(name)
    except (AdapterError, ImportError) as error:
        return Examined(str(error))
    return Examined("", frozenset(_missing(found, MayHave)))


def _missing(found: type, protocol: type) -> list[str]:
    """Return the methods of a protocol that a class does not have."""
    methods = [name for name, of in vars(protocol).items() if inspect.isfunction(of) and name[0] != "_"]
    return [method for method in methods if not callable(getattr(found, method, None))]
