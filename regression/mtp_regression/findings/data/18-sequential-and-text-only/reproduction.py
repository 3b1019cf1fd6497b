from megatron.bridge import AutoBridge
from transformers import Qwen3_5TextConfig

config = Qwen3_5TextConfig(num_hidden_layers=4)
config.architectures = ["Qwen3_5ForCausalLM"]
assert AutoBridge.supports(config), "no bridge"
