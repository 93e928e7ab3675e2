"""Global batches of training windows, cut into device batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.config.train import TrainConfig
from pipeline.tokens.reader import IGNORED_LABEL, PackedSplit
from pipeline.training.order import DataOrder


@dataclass(frozen=True)
class GlobalBatch:
    """The sequences of one optimizer step: device batches of `input_ids` and shifted `labels`, both (B, T) int64.

    `target_tokens` counts the labels of all of them that are targets; at least 1, as losses are divided by it.
    """

    device_batches: list[dict[str, torch.Tensor]]
    target_tokens: int


class GlobalBatches:
    """The global batch of any step, found without reading those before it."""

    def __init__(self, split: PackedSplit, order: DataOrder, section: TrainConfig, device: torch.device) -> None:
        self._split = split
        self._order = order
        self._size = section.global_batch_size
        self._device_size = section.per_device_train_batch_size or section.global_batch_size
        self._device = device

    def __call__(self, step: int) -> GlobalBatch:
        """The batch of update number `step`, counted from 0: positions step*G to (step+1)*G of the order."""
        windows = self._order.windows(step * self._size, self._size).tolist()
        parts = [windows[start : start + self._device_size] for start in range(0, self._size, self._device_size)]
        batches = [self._split.batch(part) for part in parts]
        # Counted on the host, so that normalizing by it needs no copy from the device.
        target_tokens = sum(int((batch["labels"] != IGNORED_LABEL).sum()) for batch in batches)
        on_device = [
            {name: torch.from_numpy(array).to(self._device, non_blocking=True) for name, array in batch.items()}
            for batch in batches
        ]
        return GlobalBatch(on_device, max(1, target_tokens))
