from megatron.bridge import AutoBridge
from tiny import tiny

tiny("tiny")
bridge = AutoBridge.from_hf_pretrained("tiny")
model = bridge.to_megatron_model(wrap_with_ddp=False)
exported = {key for key, _ in AutoBridge.from_hf_config(bridge.hf_pretrained.config).export_hf_weights(model)}
stored = set(bridge.hf_pretrained.state.source.get_all_keys())
print("not in the export:", *sorted(stored - exported)[:3])
print("instead of them:", *sorted(exported - stored)[:3])
assert exported == stored
