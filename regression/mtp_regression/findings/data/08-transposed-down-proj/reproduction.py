from megatron.bridge import AutoBridge
from safetensors.torch import save_file
from tiny import tiny

state = tiny("tiny")
key = "model.language_model.layers.0.mlp.experts.down_proj"
state[key] = state[key].transpose(1, 2).contiguous()  # [4, 32, 64] instead of [4, 64, 32]
save_file(state, "tiny/model.safetensors", {"format": "pt"})
try:
    AutoBridge.from_hf_pretrained("tiny").to_megatron_model(wrap_with_ddp=False)
except ValueError as error:
    assert "down_proj" in str(error)
    print("refused, as it should be:", error)
else:
    raise AssertionError("loaded without an error, though down_proj has another shape than the model's")
