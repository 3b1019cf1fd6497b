from pathlib import Path

from huggingface_hub import constants
from megatron.bridge import AutoBridge
from tiny import tiny

constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE = str(Path("hub").resolve()), True
repo, main, pinned = Path("hub/models--org--name"), "a" * 40, "b" * 40
for commit in (main, pinned):  # as a download of both leaves the cache
    tiny(repo / "snapshots" / commit)
(repo / "refs").mkdir()
(repo / "refs" / "main").write_text(main)
bridge = AutoBridge.from_hf_pretrained("org/name", revision=pinned, local_files_only=True)
print("asked for:", pinned, "weights of:", bridge.hf_pretrained.state.source.path.name)
assert bridge.hf_pretrained.state.source.path.name == pinned
