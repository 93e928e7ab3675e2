"""What happened since the last record, summed on the device until it is read."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pipeline.training.processes import Processes

GRAD_NORM, CLIPPED_NORM, NUM_CLIPPED = range(3)


class Interval:
    """Sums over the steps since the last record. They are on the device; reading them is the only copy to the host.

    `losses` holds this process's part of each loss, summed over target tokens, in nats; `norms` is equal in all
    processes.
    """

    def __init__(self, device: torch.device, max_norm: float) -> None:
        self.losses: dict[str, torch.Tensor] = {}
        self.norms = torch.zeros(3, device=device)
        self._max_norm = max_norm
        self.start()

    def start(self) -> None:
        """Begin anew."""
        self.norms.zero_()
        for total in self.losses.values():
            total.zero_()
        self.num_steps, self.target_tokens, self.seconds = 0, 0, 0.0

    def add_losses(self, sums: Mapping[str, torch.Tensor]) -> None:
        """Add a device batch's losses, each summed over its target tokens."""
        for name, value in sums.items():
            if name not in self.losses:
                self.losses[name] = torch.zeros_like(value, dtype=torch.float32)
            self.losses[name] += value

    def add_step(self, grad_norm: torch.Tensor, target_tokens: int) -> None:
        """Count a step, with its gradient norm before clipping."""
        self.norms[GRAD_NORM] += grad_norm
        self.norms[CLIPPED_NORM] += grad_norm.clamp(max=self._max_norm)
        self.norms[NUM_CLIPPED] += grad_norm > self._max_norm
        self.num_steps += 1
        self.target_tokens += target_tokens

    def read(self, processes: Processes) -> dict[str, float]:
        """Mean losses per target token and mean norms of all processes, by tag. Waits for the device. May not be
        finite."""
        sums = torch.cat([processes.sum(torch.stack(list(self.losses.values()))), self.norms]).tolist()
        losses = dict(zip(self.losses, sums, strict=False))
        grad_norm, clipped_norm, num_clipped = sums[len(losses) :]
        return {
            **{f"train/{name}": total / self.target_tokens for name, total in losses.items()},
            "train/grad_norm": grad_norm / self.num_steps,
            "train/grad_norm_clipped": clipped_norm / self.num_steps,
            "train/clipped_share": num_clipped / self.num_steps,
        }
