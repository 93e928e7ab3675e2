"""What happened since the last record, summed on the device until it is read."""

from __future__ import annotations

import torch

LOSS, GRAD_NORM, CLIPPED_NORM, NUM_CLIPPED = range(4)


class Interval:
    """Sums over the steps since the last record. `sums` is on the device; reading it is the only copy to the host."""

    def __init__(self, device: torch.device, max_norm: float) -> None:
        self.sums = torch.zeros(4, device=device)
        self._max_norm = max_norm
        self.start()

    def start(self) -> None:
        """Begin anew."""
        self.sums.zero_()
        self.num_steps, self.target_tokens, self.seconds = 0, 0, 0.0

    def add_loss(self, loss_sum: torch.Tensor) -> None:
        """Add a device batch's loss, summed over its target tokens, in nats."""
        self.sums[LOSS] += loss_sum

    def add_step(self, grad_norm: torch.Tensor, target_tokens: int) -> None:
        """Count a step, with its gradient norm before clipping."""
        self.sums[GRAD_NORM] += grad_norm
        self.sums[CLIPPED_NORM] += grad_norm.clamp(max=self._max_norm)
        self.sums[NUM_CLIPPED] += grad_norm > self._max_norm
        self.num_steps += 1
        self.target_tokens += target_tokens

    def read(self) -> dict[str, float]:
        """Mean loss per target token and mean norms, by tag. Waits for the device. May not be finite."""
        loss, grad_norm, clipped_norm, num_clipped = self.sums.tolist()
        return {
            "train/loss": loss / self.target_tokens,
            "train/grad_norm": grad_norm / self.num_steps,
            "train/grad_norm_clipped": clipped_norm / self.num_steps,
            "train/clipped_share": num_clipped / self.num_steps,
        }
