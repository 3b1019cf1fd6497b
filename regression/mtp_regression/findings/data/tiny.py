"""The checkpoint that reproductions begin with; `Finding.reproduction` puts it into each."""

import torch
from safetensors.torch import save_file
from transformers import Qwen3_5MoeConfig, Qwen3_5MoeForConditionalGeneration


def tiny(folder, mtp_layers=1, tied=False, **changes):
    """Write a tiny Qwen3.6 35B-A3B: packed experts, a vision tower of one layer; return its tensors."""
    sizes = {"vocab_size": 256, "hidden_size": 64, "num_hidden_layers": 4, "num_experts": 4}
    sizes |= {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 32}
    text = sizes | {"dtype": "bfloat16", "mtp_num_hidden_layers": mtp_layers} | changes
    vision = {"depth": 1, "hidden_size": 64, "intermediate_size": 64, "out_hidden_size": 64}
    vision["deepstack_visual_indexes"] = []  # as in every published config.json
    config = Qwen3_5MoeConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied)
    config.architectures = ["Qwen3_5MoeForConditionalGeneration"]
    config.save_pretrained(folder)
    state = Qwen3_5MoeForConditionalGeneration(config).bfloat16().state_dict()
    if tied:
        del state["lm_head.weight"]
    full = "model.language_model.layers.3."  # the layer with full attention
    for layer in range(mtp_layers):
        state |= {k.replace(full, f"mtp.layers.{layer}."): state[k] for k in state if k.startswith(full)}
    if mtp_layers:
        norms = ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden")
        state |= {f"mtp.{norm}.weight": torch.ones(64).bfloat16() for norm in norms}
        state["mtp.fc.weight"] = torch.randn(64, 128).bfloat16()
    state = {key: value.detach().clone() for key, value in state.items()}
    save_file(state, f"{folder}/model.safetensors", {"format": "pt"})
    return state
