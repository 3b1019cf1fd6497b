import json

from megatron.bridge import AutoBridge
from safetensors import safe_open
from tiny import tiny

tiny("tiny")
bridge = AutoBridge.from_hf_pretrained("tiny")
provider = bridge.to_megatron_provider()
provider.mtp_num_layers = None
provider.finalize()
model = provider.provide_distributed_model(wrap_with_ddp=False)
bridge.save_hf_pretrained(model, "saved", strict=False)
with open("saved/config.json") as config, safe_open("saved/model.safetensors", "pt") as tensors:
    declared = json.load(config)["text_config"]["mtp_num_hidden_layers"]
    stored = sum(key.startswith("mtp.") for key in tensors.keys())
print("MTP layers declared:", declared, "tensors of MTP:", stored)
assert (declared == 0) == (stored == 0)
