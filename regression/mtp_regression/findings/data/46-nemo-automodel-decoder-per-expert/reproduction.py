from types import SimpleNamespace

import torch
from nemo_automodel.components.models.common import BackendConfig
from nemo_automodel.components.models.qwen3_5_moe.state_dict_adapter import Qwen3_5MoeStateDictAdapter
from tiny import tiny
from transformers import AutoConfig

state = tiny("tiny", mtp_layers=0)
for key in [key for key in state if key.endswith("experts.gate_up_proj")]:
    mlp, packed = key.removesuffix("gate_up_proj"), state.pop(key)
    downs = state.pop(f"{mlp}down_proj")
    for expert, (gate_up, down) in enumerate(zip(packed, downs, strict=True)):
        gate, up = gate_up.chunk(2)
        for name, value in {"gate": gate, "up": up, "down": down}.items():
            state[f"{mlp}{expert}.{name}_proj.weight"] = value.clone()  # in BF16
text = AutoConfig.from_pretrained("tiny").text_config
experts = SimpleNamespace(n_routed_experts=text.num_experts, moe_inter_dim=text.moe_intermediate_size)
adapter = Qwen3_5MoeStateDictAdapter(text, experts, BackendConfig(), dtype=torch.bfloat16)
adapter.from_hf(state)
