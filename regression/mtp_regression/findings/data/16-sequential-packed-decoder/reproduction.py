import torch
from megatron.bridge import AutoBridge
from tiny import tiny

tiny("tiny", mtp_layers=0)
torch.use_deterministic_algorithms(True, warn_only=True)  # fills memory that is not written with NaN
provider = AutoBridge.from_hf_pretrained("tiny").to_megatron_provider()
provider.moe_grouped_gemm = False
provider.finalize()
try:
    model = provider.provide_distributed_model(wrap_with_ddp=False)
except AttributeError as error:  # up to 0.5.0; after it, there are only warnings
    raise AssertionError("parameters have no mapping") from error
names = [name for name, value in model[0].named_parameters() if value.isnan().any()]
print("never written:", *names[:3], "...")
assert not names
