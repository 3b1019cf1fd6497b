import json
import os

import torch
from megatron.bridge import AutoBridge
from safetensors.torch import save_file
from tiny import tiny

rank = os.environ["RANK"]
state = tiny(f"tiny{rank}")
os.remove(f"tiny{rank}/model.safetensors")
keys = sorted(state)
files = {"model-00001-of-00002.safetensors": keys[::2], "model-00002-of-00002.safetensors": keys[1::2]}
for name, part in files.items():  # two files, of which each rank saves one
    save_file({key: state[key] for key in part}, f"tiny{rank}/{name}", {"format": "pt"})
with open(f"tiny{rank}/model.safetensors.index.json", "w") as file:
    json.dump({"metadata": {}, "weight_map": {key: name for name in files for key in files[name]}}, file)
bridge = AutoBridge.from_hf_pretrained(f"tiny{rank}")
provider = bridge.to_megatron_provider()
provider.tensor_model_parallel_size = 2
provider.finalize()
model = provider.provide_distributed_model(wrap_with_ddp=False)
os.makedirs(f"disk-of-rank{rank}")  # 0.5.0 makes the folder on rank 0 alone
bridge.save_hf_pretrained(model, f"disk-of-rank{rank}", distributed_save=True)
torch.distributed.barrier()
if rank == "0":
    with open("disk-of-rank0/model.safetensors.index.json") as file:
        index = json.load(file)["weight_map"]
    print("tensors:", len(state), "in the index:", len(index))
    assert set(index) == set(state)
torch.distributed.barrier()
