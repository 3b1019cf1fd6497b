from safetensors import safe_open
from safetensors.torch import save_file
from tiny import tiny
from transformers import AutoConfig, Qwen3_5MoeForCausalLM

tiny("tiny", mtp_layers=0)
text = AutoConfig.from_pretrained("tiny").text_config  # the same model, text-only
text.architectures = ["Qwen3_5MoeForCausalLM"]
text.save_pretrained("text")
state = Qwen3_5MoeForCausalLM(text).bfloat16().state_dict()
save_file({key: value.clone() for key, value in state.items()}, "text/model.safetensors", {"format": "pt"})
Qwen3_5MoeForCausalLM.from_pretrained("text", dtype="auto").save_pretrained("saved")
with safe_open("saved/model.safetensors", "pt") as saved:
    keys = set(saved.keys())
print("stored:", *sorted(state)[:3], "...", "saved:", *sorted(keys)[:3], "...")
assert keys == set(state)
