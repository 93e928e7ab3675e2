"""How many bytes of tensors a process holds at once."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """While entered, counts the memory of all tensors that operations on the CPU make, after each of them.

    Of a sharded tensor it counts what this process holds. What is mapped from a file counts as long as a tensor views
    it. FSDP gives and takes the memory of what it gathers without an operation, so sizes are read anew each time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._storages: dict[int, StorageWeakRef] = {}

    def live(self) -> int:
        """Bytes that are held now."""
        total = 0
        for key, reference in [*self._storages.items()]:
            storage = torch.UntypedStorage._new_with_weak_ptr(reference.cdata)
            if storage is None:
                del self._storages[key]
            else:
                total += storage.nbytes()
        return total

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            tensor = leaf.to_local() if isinstance(leaf, DTensor) else leaf
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu":
                storage = tensor.untyped_storage()
                if storage._cdata not in self._storages or self._storages[storage._cdata].expired():
                    self._storages[storage._cdata] = StorageWeakRef(storage)
        self.peak = max(self.peak, self.live())
        return result
