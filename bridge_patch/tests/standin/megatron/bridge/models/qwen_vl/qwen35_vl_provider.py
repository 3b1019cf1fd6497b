"""Stands in for ``megatron.bridge.models.qwen_vl.qwen35_vl_provider``."""

from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

from megatron.bridge.models.gpt_provider import GPTModelProvider, language_model


class _Heads:
    position_embedding_type = "mrope"
    num_query_groups = 2
    tensor_model_parallel_size = 1

    if version("megatron-bridge").startswith("0.4."):

        def validate_parallelism(self) -> None:
            """Refuse more ranks than there are key/value heads; as upstream."""
            if self.num_query_groups < self.tensor_model_parallel_size:
                raise ValueError("Please use a smaller TP size.")


class Qwen35VLModelProvider(_Heads, GPTModelProvider):
    """The dense model's."""

    def provide(self, pre_process: Any = None, post_process: Any = None, vp_stage: Any = None) -> Any:
        """Return a model that sees."""
        del pre_process, post_process, vp_stage
        return SimpleNamespace(language_model=language_model(self))


class Qwen35VLMoEModelProvider(_Heads, GPTModelProvider):
    """The mixture of experts'."""

    def provide(self, pre_process: Any = None, post_process: Any = None, vp_stage: Any = None) -> Any:
        """Return a model that sees."""
        del pre_process, post_process, vp_stage
        return SimpleNamespace(language_model=language_model(self))
