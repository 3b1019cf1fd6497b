import torch
from megatron.bridge import AutoBridge
from tiny import tiny

tiny("tiny")
bridge = AutoBridge.from_hf_pretrained("tiny")
provider = bridge.to_megatron_provider()
provider.moe_grouped_gemm = False
provider.finalize()
model = provider.provide_distributed_model(wrap_with_ddp=False)
exported = dict(bridge.export_hf_weights(model, cpu=True))
stored = bridge.hf_pretrained.state
assert all(torch.equal(exported[key], stored[key]) for key in stored.source.get_all_keys())
