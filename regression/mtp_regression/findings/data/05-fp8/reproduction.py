import torch
from megatron.bridge import AutoBridge
from safetensors.torch import save_file
from tiny import tiny

state = tiny("tiny", mtp_layers=0)
key = "model.language_model.layers.3.self_attn.o_proj.weight"  # [64, 4096]: 1 x 32 blocks of [128, 128]
state[key] = state[key].to(torch.float8_e4m3fn)
state[f"{key}_scale_inv"] = torch.full((1, 32), 0.5)
save_file(state, "tiny/model.safetensors", {"format": "pt"})
bridge = AutoBridge.from_hf_pretrained("tiny")
model = bridge.to_megatron_model(wrap_with_ddp=False)
exported = dict(bridge.export_hf_weights(model, cpu=True))[key]
print("stored with a scale of 0.5:", state[key].flatten()[:4].tolist())
print("exported:", exported.flatten()[:4].tolist())
assert torch.equal(exported, state[key].bfloat16() * 0.5)
