from megatron.bridge import AutoBridge
from tiny import tiny

types = ["linear_attention"] * 3 + ["full_attention", "linear_attention"]
tiny("tiny", num_hidden_layers=5, layer_types=types)
AutoBridge.from_hf_pretrained("tiny").to_megatron_model(wrap_with_ddp=False)
