from megatron.bridge import AutoBridge
from safetensors.torch import save_file
from tiny import tiny

state = {key: value for key, value in tiny("tiny").items() if not key.startswith("mtp.")}
save_file(state, "tiny/model.safetensors", {"format": "pt"})
try:
    AutoBridge.from_hf_pretrained("tiny").to_megatron_model(wrap_with_ddp=False)
except KeyError as error:
    assert "mtp." in str(error)
    print("refused, as it should be:", error)
else:
    raise AssertionError("loaded without an error, though MTP is declared and not in the files")
