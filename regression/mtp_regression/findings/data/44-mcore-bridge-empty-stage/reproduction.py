import os

import torch
from mcore_bridge import ModelConfig, get_mcore_model, hf_to_mcore_config
from megatron.core import parallel_state
from tiny import tiny
from transformers import AutoConfig

folder = f"tiny{os.environ['RANK']}"
tiny(folder)
torch.distributed.init_process_group("nccl")
parallel_state.initialize_model_parallel(pipeline_model_parallel_size=3)
stages = {"pipeline_model_parallel_size": 3, "pipeline_model_parallel_layout": "Ett|tt|mL"}
hf = hf_to_mcore_config(AutoConfig.from_pretrained(folder))
config = ModelConfig(mtp_num_layers=1, use_cpu_initialization=True, **stages, **hf)
model = get_mcore_model(config)  # the last stage has MTP, and no decoder layer
config.bridge.load_weights(model, folder)
