"""Which rows of the token embedding ever had a gradient through the model's input.

A tied row also has one through the output, where softmax gives each token some, and weight decay moves every row:
neither of them teaches what a token means where it is read. So what is counted is where d(loss)/d(embedded token) is
not zero: the token stood in the input of a step that was taken, in a place on which the loss depends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pipeline.distributed.collectives import Collectives
from pipeline.modeling.module_hooks import first_tensor
from pipeline.telemetry.probe_figures import NEVER_UPDATED, NEVER_UPDATED_SHARE


class InputRows:
    """Marks rows of a model's token embedding, on the device and without a copy to the host.

    `seen`: which rows had a gradient in the steps taken since the start of the training, in this process or in those
    whose checkpoint was restored, (rows,) bool. None where the embedding is frozen or no table, or where a checkpoint
    does not tell.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        table = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
        is_trained = isinstance(table, nn.Embedding) and table.weight.requires_grad
        self._table: Any = table if is_trained else None
        self.num_rows = table.weight.shape[0] if isinstance(table, nn.Embedding) else 0
        self.seen: torch.Tensor | None = None
        if is_trained:
            self.seen = torch.zeros(self.num_rows, dtype=torch.bool, device=device)
            # Of the step that is computed; the last entry stands for embedded tokens without a gradient.
            self._in_step = torch.zeros(self.num_rows + 1, dtype=torch.bool, device=device)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Mark the rows of the forward and backward passes in the block."""
        if self.seen is None:
            yield
            return
        self._in_step.zero_()
        handle = self._table.register_forward_hook(self._watch)
        try:
            yield
        finally:
            handle.remove()

    def _watch(self, module: Any, arguments: Any, output: torch.Tensor) -> None:
        ids = first_tensor(arguments)

        def mark(gradient: torch.Tensor) -> None:
            assert ids is not None
            is_reached = torch.linalg.vector_norm(gradient, torch.inf, dim=-1) != 0
            if module.padding_idx is not None:  # the row of padding gets no gradient
                is_reached &= ids != module.padding_idx
            self._in_step.index_fill_(0, ids.where(is_reached, self.num_rows).flatten(), True)

        if ids is not None and output.requires_grad:
            output.register_hook(mark)

    def take_step(self, norm: torch.Tensor) -> None:
        """The step is taken, unless its gradient's norm is not finite: then the optimizer leaves it out."""
        if self.seen is not None:
            self.seen |= self._in_step[:-1] & norm.isfinite().to(self.seen.device)

    def of_all(self, processes: Collectives) -> torch.Tensor | None:
        """`seen` in any of the processes. All of them call it."""
        return None if self.seen is None else processes.all_reduce_largest(self.seen.float()).bool()

    def restore(self, seen: torch.Tensor | None) -> None:
        """Go on from what `of_all` gave at a checkpoint; None where that does not tell."""
        if self.seen is not None and seen is not None and seen.shape == self.seen.shape:
            self.seen.copy_(seen)
        else:
            self.seen = None

    def num_seen(self, processes: Collectives) -> torch.Tensor:
        """The number of rows seen, (1,) on the device; empty where it is unknown. All processes call it."""
        seen = self.of_all(processes)
        return torch.zeros(0) if seen is None else seen.sum(dtype=torch.float32)[None]

    def tags(self, num_seen: list[float]) -> dict[str, float]:
        """How many rows were never updated through the input, and their share, from `num_seen` on the host."""
        if not num_seen:
            return {}
        missing = self.num_rows - num_seen[0]
        return {NEVER_UPDATED: missing, NEVER_UPDATED_SHARE: missing / self.num_rows}
