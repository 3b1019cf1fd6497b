from megatron.bridge import AutoBridge
from safetensors.torch import save_file
from tiny import tiny

state = tiny("tiny", mtp_layers=0, tied=True)
state["lm_head.weight"] = state["model.language_model.embed_tokens.weight"].clone()
save_file(state, "tiny/model.safetensors", {"format": "pt"})
bridge = AutoBridge.from_hf_pretrained("tiny")
exported = dict(bridge.export_hf_weights(bridge.to_megatron_model(wrap_with_ddp=False), cpu=True))
print("stored, and not exported:", *sorted(set(state) - set(exported)))
assert set(exported) == set(state)
