import torch
from megatron.bridge import AutoBridge
from tiny import tiny


def frequencies(**scaling):
    """Return those of the language model's rotary embedding."""
    rope = {"rope_theta": 1e7, "partial_rotary_factor": 0.25, "mrope_section": [11, 11, 10]} | scaling
    tiny("tiny", mtp_layers=0, rope_parameters=rope)
    model = AutoBridge.from_hf_pretrained("tiny").to_megatron_model(wrap_with_ddp=False)
    return model[0].module.language_model.rotary_pos_emb.inv_freq.clone()


plain = frequencies(rope_type="default")
try:
    yarn = frequencies(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)
except ValueError as error:
    assert "rope_type" in str(error)
    print("refused, as it should be:", error)
else:
    print("lowest frequency:", plain.min().item(), "with YaRN and a factor of 4:", yarn.min().item())
    assert not torch.equal(plain, yarn)
