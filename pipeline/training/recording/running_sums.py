"""What happened since the last record, summed on the device until it is read."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pipeline.distributed.collectives import Processes
from pipeline.training.optimization.clipping import GradientNorms
from pipeline.training.train_config import TrainConfig

GRAD_NORM, CLIPPED_NORM, NUM_CLIPPED, CUT_SHARE = range(4)


class Interval:
    """Sums over the steps since the last record. They are on the device; reading them is the only copy to the host.

    `losses` holds this process's part of each loss, summed over target tokens, in nats; `norms` is equal in all
    processes. The losses of a step count once it is added, so that one that is dropped leaves nothing.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.losses: dict[str, torch.Tensor] = {}
        self.of_step: dict[str, torch.Tensor] = {}
        self.norms = torch.zeros(4, device=device)
        self._logging_steps = config.logging_steps
        self._cuts = config.max_grad_value is not None
        # Under a loss scale gradients may overflow; such a step is skipped and its norm counts as 0.
        self._may_overflow = config.mixed_precision == "fp16"
        self.start()

    def start(self) -> None:
        """Begin anew."""
        self.norms.zero_()
        self.losses = {name: torch.zeros_like(total) for name, total in self.losses.items()}
        self.num_steps, self.target_tokens = 0, 0

    def recorded(self, step: int) -> None:
        """Begin anew after a record of every `logging_steps`, but not after one that only the end of a training called
        for: a longer training records over the steps on both of its sides."""
        if step % self._logging_steps == 0:
            self.start()

    def add_losses(self, sums: Mapping[str, torch.Tensor]) -> None:
        """Add a micro-batch's losses, each summed over its target tokens, to those of the step."""
        for name, value in sums.items():
            self.of_step[name] = self.of_step[name] + value if name in self.of_step else value.float()

    def add_step(self, gradient: GradientNorms, target_tokens: int) -> None:
        """Count a step with the losses added since the last one, and what clipping found."""
        for name, value in self.of_step.items():
            self.losses[name] = self.losses[name] + value if name in self.losses else value
        self.of_step = {}
        found = torch.stack([gradient.norm, gradient.clipped_norm, gradient.clipped, gradient.cut_share])
        self.norms += found.nan_to_num(0.0, posinf=0.0) if self._may_overflow else found
        self.num_steps += 1
        self.target_tokens += target_tokens

    def drop_step(self) -> None:
        """Forget the losses of a step that is not taken."""
        self.of_step = {}

    def read(self, processes: Processes) -> dict[str, float]:
        """Mean losses per target token and mean norms of all processes, by tag; nothing when no step was added. Waits
        for the device. May not be finite."""
        if self.num_steps == 0:
            return {}
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
