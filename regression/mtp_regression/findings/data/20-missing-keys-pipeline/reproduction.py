import os

from megatron.bridge import AutoBridge
from safetensors.torch import save_file
from tiny import tiny

folder = f"tiny{os.environ['RANK']}"
state = {key: value for key, value in tiny(folder).items() if not key.startswith("mtp.")}
save_file(state, f"{folder}/model.safetensors", {"format": "pt"})
bridge = AutoBridge.from_hf_pretrained(folder)
provider = bridge.to_megatron_provider()
provider.pipeline_model_parallel_size = 2
provider.finalize()
try:
    model = provider.provide_distributed_model(wrap_with_ddp=False)
except KeyError as error:
    assert "mtp." in str(error)
    print("refused, as it should be:", error)
else:
    exported = dict(bridge.export_hf_weights(model, cpu=True))
    assert set(exported) == set(state)
