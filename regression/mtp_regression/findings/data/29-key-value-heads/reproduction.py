import os

from megatron.bridge import AutoBridge
from tiny import tiny

folder = f"tiny{os.environ['RANK']}"
tiny(folder, mtp_layers=0)  # with 2 key/value heads, as 35B-A3B
provider = AutoBridge.from_hf_pretrained(folder).to_megatron_provider()
provider.tensor_model_parallel_size = 4
provider.finalize()
provider.provide_distributed_model(wrap_with_ddp=False)
