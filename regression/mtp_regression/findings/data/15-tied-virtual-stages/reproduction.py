import os

from megatron.bridge import AutoBridge
from tiny import tiny

folder = f"tiny{os.environ['RANK']}"
tiny(folder, mtp_layers=0, tied=True)
provider = AutoBridge.from_hf_pretrained(folder).to_megatron_provider()
provider.pipeline_model_parallel_size = 2
provider.virtual_pipeline_model_parallel_size = 2
provider.finalize()
provider.provide_distributed_model(wrap_with_ddp=False)
