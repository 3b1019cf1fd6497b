"""What the suite asks of a bridge, as one rank sees it: the roles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from mtp_regression.ranks.parallel import Coordinates, Parallel


class Adapter(Protocol):
    """A bridge under test. One object serves one case on one rank; all ranks make every call, in one order.

    The object is made without arguments, on each rank. By then `torch.distributed` is initialised with all
    ranks of the case (gloo on CPUs, NCCL on GPUs), and RANK, WORLD_SIZE and LOCAL_RANK are set; on CPUs
    torch has one thread. Model-parallel groups are the adapter's to make in `start` or `build`, and to
    destroy in `close`. `adapters.megatron_core.MegatronCoreBridge` does that for models of Megatron-Core;
    `adapters.state_dict.StateDictBridge` is for converters of tensors, which have no ranks.

    A case begins with `start`, if there is one, and `build`. Then the suite fills every parameter with NaN:
    uninitialised memory may hold anything, and what `load` leaves out is to show. Then come `load`, and what
    the stages ask for. `close` ends it.

    An exception of a role is the case's crash, in the load or in the export; the report has its rank, class,
    message and traceback. Ranks that wait for the one that raised are ended with it.

    Attributes:
        bridge: Name of the bridge.
    """

    bridge: str

    def build(self, checkpoint: Path, parallel: Parallel) -> Any:
        """Build this rank's part of the model; its parameters may have any values.

        Args:
            checkpoint: Folder of safetensors files with `config.json`; nothing of it may be changed.
            parallel: The parallel layout; its sizes multiply to no more than the ranks that there are.

        Returns:
            The model, in any form: the suite keeps it for the adapter, as its attribute `model`.

        Raises:
            Exception: Of one of the classes `refusals`: the verdict is `refused`. Any other: `crash-import`.
        """

    def load(self, checkpoint: Path) -> None:
        """Load the checkpoint into the model; raises as `build` does."""

    def parameters(self) -> Iterator[tuple[str, Any]]:
        """Yield the name and the `torch.Tensor`, or numpy array, of every parameter that this rank holds.

        A name is "{chunk}/{name}": the number of the model chunk on this rank, from 0, and Megatron-Core's
        name in that chunk, without the wrappers' `module.` and `language_model.` and the `mtp_model_layer.`
        of MTP layers, such as "0/mtp.layers.0.mlp.experts.linear_fc1.weight7". Layers and experts are
        numbered from 0 on the rank. The tensor is the rank's shard, in the model's dtype, on any device, and
        the parameter itself or a view of it: the suite writes new values into it. The names of other models
        than Megatron-Core's are their own.
        """


class MayHave(Protocol):
    """What an adapter may have beside `Adapter`; of `stream` and `save` it must have one.

    A stage that needs what is not there does not run, and the report says so.

    Attributes:
        release: The bridge's release; its commit, if it is none.
        engine: Where the modules' parameters come from, such as a release of TransformerEngine.
        ranks: "processes", or "threads": then each rank is a thread of the suite's process, without
            `torch.distributed` or torch, and the suite sets `world`, a `ranks.rank.Rank`.
        grid: The parallel layouts that the bridge can do, if not all of `ranks.parallel.GRID`.
        vision: Whose vision tower a model with `coordinates` has: "megatron-bridge", "huggingface", which is
            whole on every rank of the first stage, or None: none.
        renamed: Names that differ from Megatron-Core's: what a name begins with, and what the suite is to
            take for it.
        vocab_divisor: Megatron's `make_vocab_size_divisible_by`, where the vocabulary is padded.
        refusals: Classes of exceptions by which the bridge says, before it loads anything, that it cannot
            carry a checkpoint; the patch's own are known without it.
        without_mtp: Whether the model is built without the checkpoint's MTP layers (Megatron-Core's
            `mtp_num_layers` is None): what it exports is to be the checkpoint without `mtp.*`, with a
            configuration that declares no MTP layer.
        built_twice: Parts of a model with a vision tower that take their memory twice while it is built, as
            `mtp_checkpoint.layouts.keys.Block` names them: the bridge makes them twice, or in float32.
        declared: Failures that are known, each with its reason: see `docs/your-bridge.md`.
        uses: Other ways in which the bridge is used, by the names of `scenarios.Use`, such as "config-only",
            and the name of the adapter of each.
    """

    def running(self) -> AbstractContextManager[Any]:
        """Give the context in which every role is called, and an export asked for its next tensor."""

    def start(self, parallel: Parallel) -> None:
        """Make what the model needs before it is built, such as process groups."""

    def stream(self) -> Iterator[tuple[str, Any]]:
        """Yield the whole model in the checkpoint's format, on every rank: keys and tensors or arrays.

        Shapes and dtypes are to be those of the checkpoint that was loaded; tensors may be on any device.
        """

    def save(self, folder: Path) -> None:
        """Write the model into a folder, in the checkpoint's format.

        Args:
            folder: The same for all ranks; it does not exist. Rank 0 reads it when all ranks have returned.
        """

    def warnings(self) -> list[str]:
        """Return the messages that the bridge has given as warnings so far."""

    def close(self) -> None:
        """Give back what `start` and `build` took, so that another case can run in the process."""

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

    def load_megatron(self, folder: Path, checkpoint: Path, parallel: Parallel) -> Any:
        """Build the model and load it from Megatron's checkpoint; called instead of `build` and `load`.

        Args:
            folder: What `save_megatron` has written, of another object, in another layout.
            checkpoint: What that object had loaded; exports are to have its format.
            parallel: The layout in which to build the model.

        Returns:
            The model; see `build`.
        """

    def read_from(self, tensor_of: Callable[[str], Any]) -> None:
        """Take the tensors of the checkpoint that is loaded next from here; they are on no disk.

        Called before `build`, whose folder has `config.json`, tokenizer, index and safetensors files with
        true headers, but holes in the place of the tensors' data.

        Args:
            tensor_of: Makes the `torch.Tensor` of a key, on the CPU; what is not held on to is freed.

        Raises:
            KeyError: By `tensor_of`: the checkpoint has no such key.
        """
