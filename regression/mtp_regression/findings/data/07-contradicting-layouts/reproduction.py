from megatron.bridge import AutoBridge
from safetensors.torch import save_file
from tiny import tiny

state = tiny("tiny")
mlp = "mtp.layers.0.mlp.experts"
for expert, down in enumerate(state[f"{mlp}.down_proj"]):
    gate, up = state[f"{mlp}.gate_up_proj"][expert].chunk(2)
    for name, value in {"gate": gate, "up": up, "down": down}.items():
        state[f"{mlp}.{expert}.{name}_proj.weight"] = -value  # other values than the packed ones
save_file(state, "tiny/model.safetensors", {"format": "pt"})
try:
    AutoBridge.from_hf_pretrained("tiny").to_megatron_model(wrap_with_ddp=False)
except ValueError as error:
    assert "layouts" in str(error)
    print("refused, as it should be:", error)
else:
    raise AssertionError("loaded without an error, though experts are stored twice, with other values")
