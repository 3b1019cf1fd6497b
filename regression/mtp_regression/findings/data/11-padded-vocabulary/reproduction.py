import torch
from megatron.bridge import AutoBridge
from safetensors.torch import save_file
from tiny import tiny
from transformers import AutoConfig

state = {key: value for key, value in tiny("tiny").items() if "visual" not in key}
state = {key.replace("model.language_model.", "model."): value for key, value in state.items()}
save_file(state, "tiny/model.safetensors", {"format": "pt"})
text = AutoConfig.from_pretrained("tiny").text_config  # the same model, text-only
text.architectures = ["Qwen3_5MoeForCausalLM"]
text.save_pretrained("tiny")
bridge = AutoBridge.from_hf_pretrained("tiny")
provider = bridge.to_megatron_provider()
provider.should_pad_vocab = True
provider.make_vocab_size_divisible_by = 384  # the vocabulary has 256 rows
provider.finalize()
model = provider.provide_distributed_model(wrap_with_ddp=False)
exported = dict(bridge.export_hf_weights(model, cpu=True))
assert torch.equal(exported["lm_head.weight"], state["lm_head.weight"])
