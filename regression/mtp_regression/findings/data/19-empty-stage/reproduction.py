import os

from megatron.bridge import AutoBridge
from tiny import tiny

folder = f"tiny{os.environ['RANK']}"
tiny(folder)
provider = AutoBridge.from_hf_pretrained(folder).to_megatron_provider()
provider.pipeline_model_parallel_size = 2
provider.pipeline_model_parallel_layout = "E|ttttmL"
provider.finalize()
provider.provide_distributed_model(wrap_with_ddp=False)
