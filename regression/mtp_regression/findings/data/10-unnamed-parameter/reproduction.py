from megatron.bridge import AutoBridge
from tiny import tiny

tiny("tiny", mtp_layers=2)  # layer 1 has no mappings
try:
    AutoBridge.from_hf_pretrained("tiny").to_megatron_model(wrap_with_ddp=False)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
    assert "mtp.layers.1.mtp_model_layer.mlp.router.weight" in str(error), "the error names no parameter"
