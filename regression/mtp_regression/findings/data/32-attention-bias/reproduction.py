from megatron.bridge import AutoBridge
from tiny import tiny

tiny("tiny", attention_bias=True)
try:
    AutoBridge.from_hf_pretrained("tiny").to_megatron_model(wrap_with_ddp=False)
except ValueError as error:
    print("refused, as it should be:", error)
