import torch
from megatron.bridge import AutoBridge
from safetensors.torch import save_file
from tiny import tiny

state = tiny("tiny", mtp_layers=0)
keys = [f"model.language_model.layers.0.linear_attn.{name}" for name in ("A_log", "norm.weight")]
state |= {key: state[key].float() for key in keys}  # as Qwen3.5 stores them
save_file(state, "tiny/model.safetensors", {"format": "pt"})
bridge = AutoBridge.from_hf_pretrained("tiny")
exported = dict(bridge.export_hf_weights(bridge.to_megatron_model(wrap_with_ddp=False), cpu=True))
for key in keys:
    print(key, "stored:", state[key].dtype, "exported:", exported[key].dtype)
assert all(exported[key].dtype == torch.float32 for key in keys)
