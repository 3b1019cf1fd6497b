import torch
from megatron.bridge import AutoBridge
from safetensors.torch import save_file
from transformers import Qwen3NextConfig

config = Qwen3NextConfig(num_hidden_layers=4)  # which has no field for MTP, as the published one
config.full_attention_interval = 4
config.architectures = ["Qwen3NextForCausalLM"]
config.save_pretrained("tiny")
save_file({"mtp.fc.weight": torch.zeros(1)}, "tiny/model.safetensors", {"format": "pt"})
bridge = AutoBridge.from_hf_pretrained("tiny")
provider = bridge.to_megatron_provider()
mapped = [one.megatron_param for one in bridge._model_bridge.mapping_registry().get_all_mappings()]
print("mappings of MTP:", sum("mtp." in name for name in mapped), "MTP layers:", provider.mtp_num_layers)
assert provider.mtp_num_layers
