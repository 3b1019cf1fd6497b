import json

import torch
from megatron.bridge import AutoBridge
from tiny import tiny

state = tiny("tiny", mtp_layers=0)  # with an lm_head of its own
with open("tiny/config.json") as file:
    config = json.load(file) | {"tie_word_embeddings": True}
with open("tiny/config.json", "w") as file:
    json.dump(config, file)
bridge = AutoBridge.from_hf_pretrained("tiny")
try:
    model = bridge.to_megatron_model(wrap_with_ddp=False)
except ValueError as error:
    print("refused, as it should be:", error)
else:
    exported = dict(bridge.export_hf_weights(model, cpu=True)).get("lm_head.weight")
    print("the checkpoint's lm_head.weight:", state["lm_head.weight"].flatten()[:3].tolist())
    print("the export's:", None if exported is None else exported.flatten()[:3].tolist())
    assert exported is not None and torch.equal(exported, state["lm_head.weight"])
