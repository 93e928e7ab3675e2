"""What happened since the last record, summed on the device until it is read."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pipeline.config.train import TrainConfig
from pipeline.training.clipping import GradientNorms
from pipeline.training.processes import Processes

GRAD_NORM, CLIPPED_NORM, NUM_CLIPPED, CUT_SHARE = range(4)


class Interval:
    """Sums over the steps since the last record. They are on the device; reading them is the only copy to the host.

    `losses` holds this process's part of each loss, summed over target tokens, in nats; `norms` is equal in all
    processes.
    """

    def __init__(self, section: TrainConfig, device: torch.device) -> None:
        self.losses: dict[str, torch.Tensor] = {}
        self.norms = torch.zeros(4, device=device)
        self._cuts = section.max_grad_value is not None
        # Under a loss scale gradients may overflow; such a step is skipped and its norm counts as 0.
        self._may_overflow = section.mixed_precision == "fp16"
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

    def add_step(self, gradient: GradientNorms, target_tokens: int) -> None:
        """Count a step and what clipping found."""
        found = torch.stack([gradient.norm, gradient.clipped_norm, gradient.clipped, gradient.cut_share])
        self.norms += found.nan_to_num(0.0, posinf=0.0) if self._may_overflow else found
        self.num_steps += 1
        self.target_tokens += target_tokens

    def read(self, processes: Processes) -> dict[str, float]:
        """Mean losses per target token and mean norms of all processes, by tag. Waits for the device. May not be
        finite."""
        sums = torch.cat([processes.sum(torch.stack(list(self.losses.values()))), self.norms]).tolist()
        losses = dict(zip(self.losses, sums, strict=False))
        grad_norm, clipped_norm, num_clipped, cut_share = sums[len(losses) :]
        return {
            **{f"train/{name}": total / self.target_tokens for name, total in losses.items()},
            "train/grad_norm": grad_norm / self.num_steps,
            "train/grad_norm_clipped": clipped_norm / self.num_steps,
            "train/clipped_share": num_clipped / self.num_steps,
            **({"train/cut_share": cut_share / self.num_steps} if self._cuts else {}),
        }
