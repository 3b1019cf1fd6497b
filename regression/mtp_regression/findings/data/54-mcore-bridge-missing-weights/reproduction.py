import torch
from mcore_bridge import ModelConfig, get_mcore_model, hf_to_mcore_config
from megatron.core import parallel_state
from safetensors.torch import load_file
from tiny import tiny
from transformers import AutoConfig

stored = tiny("tiny")
torch.distributed.init_process_group("nccl")
parallel_state.initialize_model_parallel()
hf = AutoConfig.from_pretrained("tiny")
config = ModelConfig(mtp_num_layers=1, use_cpu_initialization=True, **hf_to_mcore_config(hf))
model = get_mcore_model(config)
config.bridge.load_weights(model, "tiny")
for chunk in model:
    for parameter in chunk.parameters():
        parameter.data.neg_()
config.bridge.save_weights(model, "saved", save_missing_weights=True)
saved = load_file("saved/model.safetensors")
experts = sorted(key for key in saved if key.startswith("mtp.layers.0.mlp.experts."))
print("saved:", *experts[:3], "...", experts[-1])
stale = [key for key in experts if key in stored and torch.equal(saved[key], stored[key])]
print("as before the model was changed:", *stale)
assert not stale
