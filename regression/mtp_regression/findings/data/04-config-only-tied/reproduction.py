from megatron.bridge import AutoBridge
from safetensors.torch import save_file
from tiny import tiny
from transformers import AutoConfig

state = {key: value for key, value in tiny("tiny", mtp_layers=0, tied=True).items() if "visual" not in key}
state = {key.replace("model.language_model.", "model."): value for key, value in state.items()}
save_file(state, "tiny/model.safetensors", {"format": "pt"})
text = AutoConfig.from_pretrained("tiny").text_config  # the same model, text-only
text.architectures, text.tie_word_embeddings = ["Qwen3_5MoeForCausalLM"], True
text.save_pretrained("tiny")
bridge = AutoBridge.from_hf_pretrained("tiny")
model = bridge.to_megatron_model(wrap_with_ddp=False)
exported = {key for key, _ in AutoBridge.from_hf_config(bridge.hf_pretrained.config).export_hf_weights(model)}
print("lm_head.weight stored:", "lm_head.weight" in state, "exported:", "lm_head.weight" in exported)
assert ("lm_head.weight" in state) == ("lm_head.weight" in exported)
