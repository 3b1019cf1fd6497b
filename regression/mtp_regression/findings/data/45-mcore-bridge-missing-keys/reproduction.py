import torch
from mcore_bridge import ModelConfig, get_mcore_model, hf_to_mcore_config
from megatron.core import parallel_state
from safetensors.torch import save_file
from tiny import tiny
from transformers import AutoConfig

state = {key: value for key, value in tiny("tiny").items() if not key.startswith("mtp.")}
save_file(state, "tiny/model.safetensors", {"format": "pt"})
torch.distributed.init_process_group("nccl")
parallel_state.initialize_model_parallel()
hf = AutoConfig.from_pretrained("tiny")
config = ModelConfig(mtp_num_layers=1, use_cpu_initialization=True, **hf_to_mcore_config(hf))
model = get_mcore_model(config)
try:
    config.bridge.load_weights(model, "tiny")
except (KeyError, ValueError) as error:
    assert "mtp" in str(error)
    print("refused, as it should be:", error)
else:
    print("config.json:", hf.text_config.mtp_num_hidden_layers, "MTP layer; the checkpoint has none")
    raise AssertionError("loaded without an error")
