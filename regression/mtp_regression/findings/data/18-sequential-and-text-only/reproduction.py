from megatron.bridge import AutoBridge
from tiny import tiny
from transformers import AutoConfig

tiny("tiny", mtp_layers=0)
text = AutoConfig.from_pretrained("tiny").text_config  # the same model, text-only
text.architectures = ["Qwen3_5MoeForCausalLM"]
try:
    AutoBridge.from_hf_config(text).to_megatron_provider(load_weights=False)
except (NotImplementedError, ValueError) as error:
    raise AssertionError("there is no bridge of text-only models") from error
