import torch
from megatron.bridge import AutoBridge
from tiny import tiny

tiny("tiny", mtp_layers=2)
bridge = AutoBridge.from_hf_pretrained("tiny")
model = bridge.to_megatron_model(wrap_with_ddp=False)
exported = list(bridge.export_hf_weights(model, cpu=True))
stored = bridge.hf_pretrained.state
assert sorted(key for key, _ in exported) == sorted(stored.source.get_all_keys())
assert all(torch.equal(value, stored[key]) for key, value in exported)
