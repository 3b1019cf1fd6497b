import json

from megatron.bridge import AutoBridge
from tiny import tiny


def write(mtp_layers):
    """Write a checkpoint with an index into the same folder, as a trainer does with its next one."""
    keys = list(tiny("tiny", mtp_layers=mtp_layers))
    with open("tiny/model.safetensors.index.json", "w") as file:
        json.dump({"metadata": {}, "weight_map": dict.fromkeys(keys, "model.safetensors")}, file)
    return set(keys)


def keys_of_new_bridge():
    """Return the keys that a new bridge finds in the folder."""
    return set(AutoBridge.from_hf_pretrained("tiny").hf_pretrained.state.source.get_all_keys())


before = write(mtp_layers=0)
assert keys_of_new_bridge() == before
written = write(mtp_layers=1)
found = keys_of_new_bridge()
print("tensors of MTP written:", len(written - before), "found:", len(found - before))
assert found == written
