from megatron.bridge import AutoBridge
from safetensors.torch import save_file
from tiny import tiny

state = tiny("tiny", mtp_layers=0)
for key in [key for key in state if key.endswith("experts.gate_up_proj")]:
    mlp, packed = key.removesuffix("gate_up_proj"), state.pop(key)
    downs = state.pop(f"{mlp}down_proj")
    for expert, (gate_up, down) in enumerate(zip(packed, downs, strict=True)):
        gate, up = gate_up.chunk(2)
        for name, value in {"gate": gate, "up": up, "down": down}.items():
            state[f"{mlp}{expert}.{name}_proj.weight"] = value.clone()
save_file(state, "tiny/model.safetensors", {"format": "pt"})
AutoBridge.from_hf_pretrained("tiny").to_megatron_model(wrap_with_ddp=False)
