import torch
from mcore_bridge import ModelConfig, get_mcore_model, hf_to_mcore_config
from megatron.core import parallel_state
from tiny import tiny
from transformers import AutoConfig

types = ["full_attention", "linear_attention", "linear_attention", "full_attention"]
tiny("tiny", mtp_layers=0, layer_types=types)
torch.distributed.init_process_group("nccl")
parallel_state.initialize_model_parallel()
hf = AutoConfig.from_pretrained("tiny")
config = ModelConfig(use_cpu_initialization=True, **hf_to_mcore_config(hf))
print("config.json:", types, "model:", config.linear_attention_freq)
model = get_mcore_model(config)
config.bridge.load_weights(model, "tiny")
