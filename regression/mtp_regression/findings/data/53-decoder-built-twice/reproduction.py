import weakref

import torch
from megatron.bridge import AutoBridge
from tiny import tiny
from torch.utils._python_dispatch import TorchDispatchMode


class Memory(TorchDispatchMode):
    """Counts the bytes of the tensors that are made, for as long as they live."""

    def __init__(self):
        super().__init__()
        self.held = self.peak = 0
        self.known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.untyped_storage()._cdata not in self.known:
            storage = made.untyped_storage()
            self.known.add(storage._cdata)
            self.held += storage.nbytes()
            self.peak = max(self.peak, self.held)
            weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
        return made

    def _forget(self, place, size):
        self.known.remove(place)
        self.held -= size


tiny("tiny")
provider = AutoBridge.from_hf_pretrained("tiny").to_megatron_provider(load_weights=False)
provider.params_dtype, provider.perform_initialization = torch.bfloat16, False
provider.finalize()
with Memory() as memory:
    (model,) = provider.provide_distributed_model(wrap_with_ddp=False)
size = sum(parameter.nbytes for parameter in model.parameters())
print("parameters:", size, "bytes; at most, while they were made:", memory.peak)
assert memory.peak < 1.2 * size
