import json

from megatron.bridge import AutoBridge
from tiny import tiny
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

tiny("tiny", mtp_layers=0)
pattern = r"[\p{L}\p{M}]+"  # of Qwen3.5 and 3.6: letters with their combining marks
tokenizer = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")]))
split = pre_tokenizers.Split(Regex(pattern), "isolated")
tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
tokenizer.save("tiny/tokenizer.json")
with open("tiny/tokenizer_config.json", "w") as file:
    json.dump({"tokenizer_class": "Qwen2Tokenizer"}, file)
bridge = AutoBridge.from_hf_pretrained("tiny")
bridge.save_hf_pretrained(bridge.to_megatron_model(wrap_with_ddp=False), "saved")
with open("tiny/tokenizer.json") as stored, open("saved/tokenizer.json") as saved:
    before, after = json.load(stored), json.load(saved)
print("pattern stored:", before["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"])
print("pattern saved:", after["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"])
assert after == before
