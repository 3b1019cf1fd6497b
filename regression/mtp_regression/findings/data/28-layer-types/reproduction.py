from megatron.bridge import AutoBridge
from transformers import Qwen3_5MoeConfig

types = ["full_attention", "linear_attention", "linear_attention", "full_attention"]
config = Qwen3_5MoeConfig(text_config={"num_hidden_layers": 4, "layer_types": types})
config.architectures = ["Qwen3_5MoeForConditionalGeneration"]
provider = AutoBridge.from_hf_config(config).to_megatron_provider(load_weights=False)
print("config.json:", types, "model:", provider.linear_attention_freq)
assert provider.linear_attention_freq == [int(kind == "linear_attention") for kind in types]
