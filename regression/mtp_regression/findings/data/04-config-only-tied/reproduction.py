from megatron.bridge import AutoBridge
from tiny import tiny

stored = tiny("tiny", mtp_layers=0, tied=True)
bridge = AutoBridge.from_hf_pretrained("tiny")
model = bridge.to_megatron_model(wrap_with_ddp=False)
exported = {key for key, _ in AutoBridge.from_hf_config(bridge.hf_pretrained.config).export_hf_weights(model)}
print("lm_head.weight stored:", "lm_head.weight" in stored, "exported:", "lm_head.weight" in exported)
assert ("lm_head.weight" in stored) == ("lm_head.weight" in exported)
