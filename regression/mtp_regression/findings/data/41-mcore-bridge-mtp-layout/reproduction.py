import torch
from mcore_bridge import ModelConfig, get_mcore_model, hf_to_mcore_config
from megatron.core import parallel_state
from safetensors import safe_open
from tiny import tiny
from transformers import AutoConfig

state = tiny("tiny")
torch.distributed.init_process_group("nccl")
parallel_state.initialize_model_parallel()
hf = AutoConfig.from_pretrained("tiny")
config = ModelConfig(mtp_num_layers=1, use_cpu_initialization=True, **hf_to_mcore_config(hf))
model = get_mcore_model(config)
config.bridge.load_weights(model, "tiny")
config.bridge.save_weights(model, "saved")
with safe_open("saved/model.safetensors", "pt") as saved:
    keys = set(saved.keys())
print("only saved:", *sorted(keys - set(state))[:3], "...", "only stored:", *sorted(set(state) - keys))
assert keys == set(state)
