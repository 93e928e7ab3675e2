"""Global batches of training windows, shared out among processes and cut into micro-batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from pipeline.training.order import DataOrder
from pipeline.training.train_config import TrainConfig


class TrainingSplit(Protocol):
    """Windows by index, and how many targets some of them have, found without reading them."""

    @property
    def block_size(self) -> int: ...
    @property
    def target_tokens(self) -> int: ...
    def __len__(self) -> int: ...
    def batch(self, indices: Iterable[int]) -> dict[str, Any]: ...
    def num_targets(self, indices: Iterable[int]) -> int: ...
    def num_tokens_in(self, indices: Iterable[int]) -> int: ...


@dataclass(frozen=True)
class GlobalBatch:
    """The sequences of one optimizer step: this process's micro-batches of `input_ids` and shifted `labels`, both
    (B, T) int64; or of `input_ids`, `attention_mask` and one label a sequence, (B,).

    `target_tokens` counts the labels of all processes that are targets; at least 1, as losses are divided by it.
    `num_tokens` counts the tokens that are no padding.
    """

    micro_batches: list[dict[str, torch.Tensor]]
    target_tokens: int
    num_tokens: int


class GlobalBatches:
    """The global batch of any step, found without reading those before it."""

    def __init__(
        self,
        split: TrainingSplit,
        order: DataOrder,
        config: TrainConfig,
        device: torch.device,
        dp_rank: int = 0,
        dp_world_size: int = 1,
    ) -> None:
        self._split = split
        self._order = order
        self._size = config.global_batch_size
        self._micro_size = config.device_batch_size(dp_world_size)
        share = self._size // dp_world_size
        self._own = range(dp_rank * share, (dp_rank + 1) * share, self._micro_size)
        self._device = device

    def __getitem__(self, step: int) -> GlobalBatch:
        """The batch of update number `step`, counted from 0: positions step*G to (step+1)*G of the order."""
        windows = self._order.windows(step * self._size, self._size).tolist()
        micro_batches = [self._on_device(self._split.batch(part)) for part in self.windows(step)]
        # Counted on the host and by each process for all of them, so that it needs no copy and no communication.
        return GlobalBatch(micro_batches, max(1, self._split.num_targets(windows)), self._split.num_tokens_in(windows))

    def windows(self, step: int) -> list[list[int]]:
        """Which windows of the split are in each micro-batch of this process."""
        windows = self._order.windows(step * self._size, self._size).tolist()
        return [windows[start : start + self._micro_size] for start in self._own]

    def _on_device(self, arrays: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(array).to(self._device, non_blocking=True) for name, array in arrays.items()}
