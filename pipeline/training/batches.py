"""Global batches of training windows, shared out among processes and cut into micro-batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.evaluation.losses import Batch, on_device
from pipeline.tasks import Split
from pipeline.training.data_order import DataOrder
from pipeline.training.train_config import TrainConfig


@dataclass(frozen=True)
class GlobalBatch:
    """The rows of one optimizer step, in this process's micro-batches.

    `target_tokens` counts the labels of all processes that are targets; at least 1, as losses are divided by it.
    `num_tokens` counts the tokens that are no padding.
    """

    micro_batches: list[Batch]
    target_tokens: int
    num_tokens: int


class GlobalBatches:
    """The global batch of any step, found without reading those before it."""

    def __init__(
        self,
        split: Split,
        order: DataOrder,
        config: TrainConfig,
        device: torch.device,
        dp_rank: int = 0,
        dp_world_size: int = 1,
    ) -> None:
        self._split = split
        self._order = order
        self._size = config.global_batch_size
        self._micro_size = config.micro_batch_size(dp_world_size)
        share = self._size // dp_world_size
        self._own = range(dp_rank * share, (dp_rank + 1) * share, self._micro_size)
        self._device = device

    def __getitem__(self, step: int) -> GlobalBatch:
        """The batch of update number `step`, counted from 0: positions step*G to (step+1)*G of the order."""
        windows = self._order.windows(step * self._size, self._size).tolist()
        micro_batches = [on_device(self._split.batch(part), self._device) for part in self.windows(step)]
        # Counted on the host and by each process for all of them, so that it needs no copy and no communication.
        return GlobalBatch(micro_batches, max(1, self._split.num_targets(windows)), self._split.num_tokens_in(windows))

    def first_targets(self, step: int) -> list[int]:
        """Targets of each process's first micro-batch."""
        windows = self._order.windows(step * self._size, self._size).tolist()
        starts = range(0, self._size, len(self._own) * self._micro_size)
        return [self._split.num_targets(windows[start : start + self._micro_size]) for start in starts]

    def windows(self, step: int) -> list[list[int]]:
        """Which windows of the split are in each micro-batch of this process."""
        windows = self._order.windows(step * self._size, self._size).tolist()
        return [windows[start : start + self._micro_size] for start in self._own]
