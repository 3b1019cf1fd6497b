"""Stands in for ``megatron.bridge.models.qwen_vl.modelling_qwen3_vl.text_model``."""

from typing import Any

from megatron.core.models.gpt.gpt_model import GPTModel, TransformerBlock


class Qwen3VLTransformerBlock(TransformerBlock):
    """The layers of a model that sees."""


class Qwen3VLGPTModel(GPTModel):
    """The language model of one that sees."""

    decoder: Any

    def __init__(
        self,
        config: Any,
        transformer_layer_spec: Any,
        vocab_size: int,
        max_sequence_length: int,
        pre_process: bool = True,
        post_process: bool = True,
        fp16_lm_cross_entropy: bool = False,
        parallel_output: bool = True,
        share_embeddings_and_output_weights: bool = False,
        position_embedding_type: str = "learned_absolute",
        rotary_percent: float = 1.0,
        rotary_base: int = 10000,
        rope_scaling: bool = False,
        rope_scaling_factor: float = 8.0,
        scatter_embedding_sequence_parallel: bool = True,
        seq_len_interpolation_factor: float | None = None,
        mtp_block_spec: Any = None,
        vp_stage: int | None = None,
        pg_collection: Any = None,
    ) -> None:
        """Build a decoder, and another in its place; as upstream."""
        del vocab_size, max_sequence_length, pre_process, post_process, fp16_lm_cross_entropy
        del parallel_output, share_embeddings_and_output_weights, position_embedding_type, rotary_percent
        del rotary_base, rope_scaling, rope_scaling_factor, scatter_embedding_sequence_parallel
        del seq_len_interpolation_factor, mtp_block_spec, vp_stage, pg_collection
        super().__init__(config, transformer_layer_spec)
        self.first = self.decoder
        self.decoder = Qwen3VLTransformerBlock(config=config, spec=transformer_layer_spec)
