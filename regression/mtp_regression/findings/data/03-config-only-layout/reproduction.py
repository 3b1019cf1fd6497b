from megatron.bridge import AutoBridge
from tiny import tiny

tiny("tiny")
bridge = AutoBridge.from_hf_pretrained("tiny")
model = bridge.to_megatron_model(wrap_with_ddp=False)
by_config = AutoBridge.from_hf_config(bridge.hf_pretrained.config)
try:
    exported = {key for key, _ in by_config.export_hf_weights(model)}
except TypeError as error:
    raise AssertionError("there is no export without the checkpoint") from error
stored = set(bridge.hf_pretrained.state.source.get_all_keys())
print("not in the export:", *sorted(stored - exported)[:3])
print("instead of them:", *sorted(exported - stored)[:3])
assert exported == stored
