"""Stands in for ``megatron.bridge.models.qwen_vl.qwen35_vl_provider``."""

from importlib.metadata import version


class _Provider:
    num_query_groups = 2
    tensor_model_parallel_size = 1

    if version("megatron-bridge").startswith("0.4."):

        def validate_parallelism(self) -> None:
            """Refuse more ranks than there are key/value heads; as upstream."""
            if self.num_query_groups < self.tensor_model_parallel_size:
                raise ValueError("Please use a smaller TP size.")


class Qwen35VLModelProvider(_Provider):
    """The dense model's."""


class Qwen35VLMoEModelProvider(_Provider):
    """The mixture of experts'."""
