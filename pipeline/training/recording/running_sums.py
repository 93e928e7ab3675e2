"""What happened since the last record, summed on the device until it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pipeline.distributed.collectives import Collectives
from pipeline.training.train_config import TrainConfig

if TYPE_CHECKING:
    from pipeline.training.train_step import StepResult

GRAD_NORM, CLIPPED_NORM, NUM_CLIPPED, CUT_SHARE = range(4)


class RunningSums:
    """Sums over the steps since the last record. They are on the device until `totals` are copied to the host.

    `losses`: sums over this process's targets, in nats. `norms`: the same on all processes. `highest`: the highest loss
    of a step, its step, and the highest gradient norm; empty before the first step that `note` gets.
    """

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.losses: dict[str, torch.Tensor] = {}
        self.norms = torch.zeros(4, device=device)
        self.highest: list[float] = []
        self._cuts = config.max_grad_value is not None
        # Under a loss scale gradients may overflow; such a step is skipped and its norm counts as 0.
        self._may_overflow = config.mixed_precision == "fp16"
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.norms.zero_()
        self.losses = {name: torch.zeros_like(total) for name, total in self.losses.items()}
        self.num_steps, self.target_tokens = 0, 0
        self.highest = []

    def note(self, step: int, loss: float, norm: float) -> None:
        """Take a step that was read to the host: its mean loss and gradient norm."""
        loss_before, step_before, norm_before = self.highest or (loss, step, norm)
        self.highest = [
            max(loss, loss_before),
            step if loss > loss_before else step_before,
            max(norm, norm_before),
        ]

    def add(self, step: StepResult) -> None:
        """Add the losses and gradient norms of a step, unless it was skipped."""
        if step.is_skipped:
            return
        for name, value in step.loss_sums.items():
            self.losses[name] = self.losses[name] + value if name in self.losses else value
        gradient = step.grad_norms
        found = torch.stack([gradient.norm, gradient.clipped_norm, gradient.clipped, gradient.cut_share])
        self.norms += found.nan_to_num(0.0, posinf=0.0) if self._may_overflow else found
        self.num_steps += 1
        self.target_tokens += step.target_tokens

    def totals(self, processes: Collectives) -> torch.Tensor:
        """The sums of all processes on the device, in one dimension; empty when no step was added. All call it."""
        if self.num_steps == 0:
            return self.norms[:0]
        return torch.cat([processes.all_reduce_sum(torch.stack(list(self.losses.values()))), self.norms])

    def means(self, sums: list[float]) -> dict[str, float]:
        """Mean losses per target token and mean norms by tag, from the `totals` on the host; nothing when no step was
        added. May not be finite."""
        if not sums:
            return {}
        losses = dict(zip(self.losses, sums, strict=False))
        highest = zip(("loss_max", "loss_max_step", "grad_norm_max"), self.highest, strict=False)
        grad_norm, clipped_norm, num_clipped, cut_share = sums[len(losses) :]
        return {
            **{f"train/{name}": total / self.target_tokens for name, total in losses.items()},
            "train/grad_norm": grad_norm / self.num_steps,
            **{f"train/{name}": value for name, value in highest},
            "train/grad_norm_clipped": clipped_norm / self.num_steps,
            "train/clipped_share": num_clipped / self.num_steps,
            **({"train/cut_share": cut_share / self.num_steps} if self._cuts else {}),
        }
