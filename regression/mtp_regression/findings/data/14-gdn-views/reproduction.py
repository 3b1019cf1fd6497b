from megatron.bridge import AutoBridge
from tiny import tiny

tiny("tiny", mtp_layers=0, linear_num_key_heads=16, linear_num_value_heads=16)
bridge = AutoBridge.from_hf_pretrained("tiny")
bridge.save_hf_pretrained(bridge.to_megatron_model(wrap_with_ddp=False), "saved")
