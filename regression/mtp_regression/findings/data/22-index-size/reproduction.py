import json

from megatron.bridge import AutoBridge
from safetensors import safe_open
from tiny import tiny

keys = tiny("tiny", mtp_layers=0)
with open("tiny/model.safetensors.index.json", "w") as file:
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(keys, "model.safetensors")}
    json.dump(index, file)
bridge = AutoBridge.from_hf_pretrained("tiny")
bridge.save_hf_pretrained(bridge.to_megatron_model(wrap_with_ddp=False), "saved")
with open("saved/model.safetensors.index.json") as file, safe_open("saved/model.safetensors", "pt") as saved:
    told = json.load(file)["metadata"]["total_size"]
    size = sum(saved.get_tensor(key).nbytes for key in saved.keys())
print("the index says:", told, "there are:", size)
assert told == size
