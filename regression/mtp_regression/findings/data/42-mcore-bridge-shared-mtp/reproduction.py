import torch
from mcore_bridge import ModelConfig, get_mcore_model, hf_to_mcore_config
from megatron.core import parallel_state
from tiny import tiny
from transformers import AutoConfig

tiny("tiny", mtp_layers=2)
torch.distributed.init_process_group("nccl")
parallel_state.initialize_model_parallel()
hf = AutoConfig.from_pretrained("tiny")
config = ModelConfig(mtp_num_layers=2, use_cpu_initialization=True, **hf_to_mcore_config(hf))
model = get_mcore_model(config)
config.bridge.load_weights(model, "tiny")
keys = [key for key, _ in config.bridge.export_weights(model, target_device="cpu")]
twice = {key for key in keys if keys.count(key) > 1}
print("exported twice:", *sorted(twice))
assert not twice
