"""What every reproduction imports, for the server that they are forks of."""

import importlib
from contextlib import suppress

from mtp_regression.on_cpu import install_stand_ins

install_stand_ins()

for _module in (
    "megatron.bridge",
    "megatron.core.models.gpt",
    "transformers.models.qwen3_5.modeling_qwen3_5",
    "transformers.models.qwen3_5_moe.modeling_qwen3_5_moe",
):
    with suppress(ImportError):
        importlib.import_module(_module)
