import os

from megatron.bridge import AutoBridge
from tiny import tiny

folder = f"tiny{os.environ['RANK']}"
tiny(folder)
provider = AutoBridge.from_hf_pretrained(folder).to_megatron_provider()
provider.should_pad_vocab = True
provider.make_vocab_size_divisible_by = 384  # the vocabulary has 256 rows
provider.tensor_model_parallel_size = 2
provider.finalize()
model = provider.provide_distributed_model(wrap_with_ddp=False)
