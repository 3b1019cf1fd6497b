from megatron.bridge import AutoBridge
from transformers import Qwen3_5MoeConfig

config = Qwen3_5MoeConfig(vision_config={"spatial_merge_size": 1})
config.architectures = ["Qwen3_5MoeForConditionalGeneration"]
provider = AutoBridge.from_hf_config(config).to_megatron_provider(load_weights=False)
print("config.json:", config.vision_config.spatial_merge_size, "model:", provider.spatial_merge_size)
assert provider.spatial_merge_size == config.vision_config.spatial_merge_size
