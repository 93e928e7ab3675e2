"""What a computation allocates, by kind, counted on tensors without data."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

KINDS = ("weights", "gradients", "optimizer", "activations", "logits", "telemetry")


class Allocations(TorchDispatchMode):
    """Counts the bytes of all living tensors by kind. Remembers the largest total since `reset_peak`, and the moment
    with most activations, logits included.

    Meant for fake tensors, whose storages have sizes but no data. `hold` names what the model and the optimizer hold.
    Every other tensor is an activation, or belongs to the logits when its last dimension is `vocab_size`. A parameter's
    gradient is recognized when it is complete. Kernels' own scratch memory is not seen.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.peak: Counter[str] = Counter()
        self.most_activations: Counter[str] = Counter()
        self._living: Counter[str] = Counter()
        self._kinds: dict[int, str] = {}
        self._vocab_size = vocab_size
        self._kind_now: str | None = None

    def hold(self, kind: str, tensors: Iterable[torch.Tensor]) -> None:
        """Count tensors that exist already, or count them anew under another kind."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            before = self._kinds.get(storage._cdata)
            if before is None:
                self._add(storage, kind)
            elif before != kind:
                self._living[before] -= storage.nbytes()
                self._living[kind] += storage.nbytes()
                self._kinds[storage._cdata] = kind

    @contextmanager
    def making(self, kind: str) -> Iterator[None]:
        """Count what comes into being inside the block under one kind."""
        self._kind_now = kind
        try:
            yield
        finally:
            self._kind_now = None

    @contextmanager
    def watching_gradients(self, model: nn.Module) -> Iterator[None]:
        """Count parameters' gradients as such from the moment they are complete, while the block runs."""

        def complete(parameter: torch.Tensor) -> None:
            assert parameter.grad is not None
            self.hold("gradients", [parameter.grad])

        handles = [p.register_post_accumulate_grad_hook(complete) for p in model.parameters() if p.requires_grad]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def reset_peak(self) -> None:
        """Forget earlier peaks; what is alive now counts."""
        self.peak = self._living.copy()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in self._kinds:
                    is_logits = leaf.ndim >= 2 and leaf.shape[-1] == self._vocab_size
                    self._add(storage, self._kind_now or ("logits" if is_logits else "activations"))
        if self._living.total() > self.peak.total():
            self.peak = self._living.copy()
        if _activations(self._living) > _activations(self.most_activations):
            self.most_activations = self._living.copy()
        return result

    def _add(self, storage: torch.UntypedStorage, kind: str) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._kinds[key] = kind
        self._living[kind] += size
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._living[self._kinds.pop(key)] -= size


def _activations(bytes_by_kind: Counter[str]) -> int:
    return bytes_by_kind["activations"] + bytes_by_kind["logits"]
