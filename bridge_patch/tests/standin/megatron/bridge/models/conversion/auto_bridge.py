"""Stands in for ``megatron.bridge.models.conversion.auto_bridge``."""

from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def safe_load_config_with_retry(path: str, trust_remote_code: bool = False, **kwargs: Any) -> Any:
    """Return a config that tells what it was asked for with; upstream's is in another module."""
    del trust_remote_code
    return SimpleNamespace(architectures=[path], asked=kwargs)


class AutoBridge:
    """What users call."""

    def __init__(self, hf_pretrained: Any) -> None:
        self.hf_pretrained = hf_pretrained

    @classmethod
    def from_hf_pretrained(cls, path: str, **kwargs: Any) -> "AutoBridge":
        """Look at the config, which 0.4.0 asks for by the name alone; it is the checkpoint here."""
        options = {} if version("megatron-bridge") == "0.4.0" else kwargs
        return cls(safe_load_config_with_retry(path, trust_remote_code=False, **options))

    def save_hf_pretrained(
        self,
        model: list[Any],
        path: str | Path,
        show_progress: bool = True,
        source_path: str | Path | None = None,
        strict: bool = True,
        merge_adapter_weights: bool = True,
        distributed_save: bool = False,
        save_every_n_ranks: int = 1,
    ) -> None:
        """Save what comes with the weights; 0.4.x refuses a config alone."""
        del show_progress, source_path, strict
        del merge_adapter_weights, distributed_save, save_every_n_ranks
        if version("megatron-bridge").startswith("0.4.") and not hasattr(self.hf_pretrained, "state"):
            raise ValueError("The state source is required")
        save = ("save_artifacts", "save_pretrained")  # of a checkpoint, of a config
        for method in filter(None, (getattr(self.hf_pretrained, name, None) for name in save)):
            method(path)
        self.save_hf_weights(model, path)

    def save_hf_weights(
        self,
        model: list[Any],
        path: str | Path,
        show_progress: bool = True,
        strict: bool = True,
        merge_adapter_weights: bool = True,
        distributed_save: bool = False,
        save_every_n_ranks: int = 1,
    ) -> None:
        """Have the checkpoint's reader save, as it is its files that are written anew."""
        del model, show_progress, strict, merge_adapter_weights, distributed_save, save_every_n_ranks
        source: Any = getattr(getattr(self.hf_pretrained, "state", None), "source", None)
        if hasattr(source, "save_generator"):
            source.save_generator(path)


if version("megatron-bridge").startswith("0.6."):
    _V05 = AutoBridge

    class AutoBridge(_V05):  # type: ignore[no-redef]
        """0.6.x takes a dtype as well."""

        def save_hf_pretrained(
            self,
            model: list[Any],
            path: str | Path,
            show_progress: bool = True,
            source_path: str | Path | None = None,
            strict: bool = True,
            merge_adapter_weights: bool = True,
            distributed_save: bool = False,
            save_every_n_ranks: int = 1,
            weight_dtype: Any = None,
        ) -> None:
            """Save the same."""
            del show_progress, source_path, strict
            del merge_adapter_weights, distributed_save, save_every_n_ranks, weight_dtype
            super().save_hf_pretrained(model, path)

        def save_hf_weights(
            self,
            model: list[Any],
            path: str | Path,
            show_progress: bool = True,
            strict: bool = True,
            merge_adapter_weights: bool = True,
            distributed_save: bool = False,
            save_every_n_ranks: int = 1,
            weight_dtype: Any = None,
        ) -> None:
            """Save the same."""
            del show_progress, strict, merge_adapter_weights, distributed_save
            del save_every_n_ranks, weight_dtype
            super().save_hf_weights(model, path)

    del _V05  # upstream has one class alone
