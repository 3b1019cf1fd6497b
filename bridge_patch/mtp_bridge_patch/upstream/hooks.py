"""The hooks of a fix: what it does where upstream converts a model of the family."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from mtp_bridge_patch.upstream.conversion import Conversion


@dataclass(frozen=True)
class Load:
    """A load of a whole checkpoint.

    Attributes:
        bridge: Upstream's bridge.
        conversion: What it is in.
        models: The model's chunks, without their wrappers.
    """

    bridge: Any
    conversion: Conversion
    models: list[Any]


@dataclass(frozen=True)
class Export:
    """An export of a model.

    Attributes:
        conversion: What the bridge is in.
        weight_dtype: The dtype that the weights were asked for in (0.6.x); None for that of the checkpoint.
    """

    conversion: Conversion
    weight_dtype: Any


@dataclass(frozen=True)
class Save:
    """A call of a method of upstream's that saves a folder, or a part of it.

    Attributes:
        owner: Upstream's `AutoBridge`, or the checkpoint itself.
        pretrained: Upstream's `hf_pretrained`: a checkpoint, or a config alone.
        arguments: What the method was given, by name; those left out are not there.
    """

    owner: Any
    pretrained: Any
    arguments: Mapping[str, Any]

    @property
    def config(self) -> Any:
        """The Hugging Face config."""
        return getattr(self.pretrained, "config", self.pretrained)


@dataclass(frozen=True, eq=False, kw_only=True)
class Hooks:
    """What is done where upstream converts a model of the family. Hooks of several fixes run in their order.

    Attributes:
        provider: Changes what makes the model; gets it and the Hugging Face config.
        begin: Completes a conversion that has begun; may be called again for the same one.
        load: Loads a whole checkpoint by calling its third argument; every rank calls it. The others are the
            bridge and the model's chunks, without their wrappers.
        check: Looks at a checkpoint before anything is read of it; raises if it cannot be loaded.
        before_load: Called before a whole checkpoint is loaded, after all checks; raises if it cannot be.
        loaded: Changes a tensor that was read: gets it, its key and upstream's state dict.
        mappings: Makes a bridge's mappings out of those it has.
        pretrained: Chooses what tasks are built from; gets the conversion, and the checkpoint or config.
        tasks: Makes the tasks of a conversion out of those that upstream built.
        naming: Is entered while upstream names the parameters of all ranks.
        embedding_chunks: Chooses the chunks that tied embeddings are broadcast between.
        stream: Exports a whole model by iterating over what its second argument returns; every rank of the
            model calls it. The first are the model's chunks, without their wrappers.
        export: Yields what is exported instead of one tensor: names and tensors.
        save: Saves a folder by calling its second argument, or otherwise; every rank calls it.
        save_weights: Saves the weights in the same way, alone or as a part of `save`; every rank calls it.
        save_artifacts: Saves what goes with the weights in the same way; a rank that writes calls it.
    """

    provider: Callable[[Any, Any], Any] | None = None
    begin: Callable[[Conversion], None] | None = None
    load: Callable[[Any, list[Any], Callable[[], Any]], Any] | None = None
    check: Callable[[Conversion], None] | None = None
    before_load: Callable[[Load], None] | None = None
    loaded: Callable[[Any, str, Any], Any] | None = None
    mappings: Callable[[list[Any], Conversion], Iterable[Any]] | None = None
    pretrained: Callable[[Conversion, Any], Any] | None = None
    tasks: Callable[[list[Any]], list[Any]] | None = None
    naming: Callable[[], AbstractContextManager[None]] | None = None
    embedding_chunks: Callable[[list[Any]], list[Any]] | None = None
    stream: Callable[[list[Any], Callable[[], Iterator[Any]]], Iterator[Any]] | None = None
    export: Callable[[str, Any, Export], Iterator[tuple[str, Any]]] | None = None
    save: Callable[[Save, Callable[[], Any]], Any] | None = None
    save_weights: Callable[[Save, Callable[[], Any]], Any] | None = None
    save_artifacts: Callable[[Save, Callable[[], Any]], Any] | None = None

    @classmethod
    def of(cls, fixes: Iterable["Hooks"], name: str) -> list[Callable[..., Any]]:
        """Return what fixes hang into one hook, in their order."""
        return [hook for fix in fixes if (hook := getattr(fix, name)) is not None]
