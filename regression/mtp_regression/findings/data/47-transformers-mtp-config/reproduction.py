from safetensors import safe_open
from tiny import tiny
from transformers import AutoConfig, Qwen3_5MoeForConditionalGeneration

tiny("tiny")
Qwen3_5MoeForConditionalGeneration.from_pretrained("tiny", dtype="auto").save_pretrained("saved")
declared = AutoConfig.from_pretrained("saved").text_config.mtp_num_hidden_layers
with safe_open("saved/model.safetensors", "pt") as saved:
    stored = [key for key in saved.keys() if key.startswith("mtp.")]
print("MTP layers that config.json declares:", declared, "tensors of MTP:", len(stored))
assert bool(stored) == bool(declared)
