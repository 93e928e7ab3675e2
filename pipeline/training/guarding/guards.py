"""What happens to steps whose loss or gradient is not finite, or whose loss is far above those before.

A step that is not finite must not reach the weights. AdamW and SGD in torch's fused form can be told so on the device,
so that the host need not know before the next record (`halt`): nothing is copied in between. Every other choice reads
loss and gradient norm from the device once a step, before the optimizer runs; that wait is the price of skipping.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from pipeline.errors import DivergedError
from pipeline.modeling.sharding import whole
from pipeline.training.checkpointing.checkpoints import CheckpointWriter, list_checkpoints, step_of
from pipeline.training.checkpointing.random_states import GeneratorStates, generator_states
from pipeline.training.checkpointing.training_state_dict import ResumableState
from pipeline.training.guarding.autopsy import Autopsy
from pipeline.training.guarding.rollback import roll_back
from pipeline.training.guarding.spikes import spike_in
from pipeline.training.optimization.clipping import GradientNorms
from pipeline.training.train_config import TrainConfig


@dataclass(frozen=True)
class Seen:
    """A step's loss summed over this process's target tokens, their number in all processes, and the norm of its
    gradient; tensors stay on the device until they are read."""

    step: int
    loss_sum: torch.Tensor
    target_tokens: int
    grad_norm: torch.Tensor
    random: GeneratorStates


class Guard:
    """Decides about each step: `begin` it, ask `accepts` before the optimizer runs, and `settle` before anything is
    recorded or saved. All processes decide the same."""

    def __init__(
        self,
        config: TrainConfig,
        state: ResumableState,
        autopsy: Autopsy,
        checkpoints: CheckpointWriter,
        say: Callable[[str], None],
    ) -> None:
        self._config = config
        self._state = state
        self._autopsy = autopsy
        self._checkpoints = checkpoints
        self._say = say if state.processes.is_main else _nothing
        self._has_loss_scaler = state.loss_scaler is not None
        self._is_deferred = (
            config.on_nonfinite == "halt"
            and config.on_loss_spike != "skip"
            and not self._has_loss_scaler
            and _skips_on_the_device(state.optimizer)
        )
        self._found = torch.zeros((), device=state.interval.norms.device)
        self._unread: list[Seen] = []
        self._losses: list[tuple[int, float]] = []
        self._num_rollbacks: dict[int, int] = {}

    def begin(self) -> None:
        """A step begins: note the random states from which it can be run again."""
        self._random = generator_states()

    def accepts(self, gradient: GradientNorms, target_tokens: int) -> bool:
        """Whether the optimizer may take the step, whose losses the interval then counts. Raises DivergedError where
        training is to end."""
        interval = self._state.interval
        loss_sum = interval.of_step["loss"]
        seen = Seen(self._state.counters.step, loss_sum, target_tokens, gradient.norm, self._random)
        is_taken = self._decide(seen)
        if is_taken:
            interval.add_step(gradient, target_tokens)
        else:
            interval.drop_step()
        return is_taken

    def _decide(self, seen: Seen) -> bool:
        if self._is_deferred:
            is_bad = ~(seen.loss_sum.isfinite() & seen.grad_norm.isfinite())
            self._found = torch.maximum(self._found, is_bad.float())
            # Once set it stays: the weights remain those that met the value, until `settle` looks into it.
            self._state.optimizer.found_inf = self._found  # type: ignore[attr-defined]
            self._unread.append(seen)
            return True
        [(loss, norm)] = self._read([seen])
        return self._judge(seen, loss, norm)

    def settle(self) -> dict[str, float]:
        """Look at the steps since the last call: end the training on values that are not finite, warn of spikes or go
        back before them. Returns how many steps were skipped and how many losses were spikes so far, by tag. Waits for
        the device."""
        unread, self._unread = self._unread, []
        for seen, (loss, norm) in zip(unread, self._read(unread), strict=True):
            self._judge(seen, loss, norm)
        losses, self._losses = self._losses, []
        if self._config.on_loss_spike in ("warn", "rollback"):
            for step, loss in losses:
                spike = self._spike_in(loss)
                if spike is not None and self._handle_spike(step, spike):
                    break
                self._remember(loss)
        counters = self._state.counters
        return {"train/skipped_steps": counters.skipped_steps, "train/loss_spikes": counters.loss_spikes}

    def _read(self, steps: list[Seen]) -> list[tuple[float, float]]:
        """Mean losses over the target tokens of all processes, and gradient norms."""
        if not steps:
            return []
        losses = self._state.processes.sum(torch.stack([seen.loss_sum.float() for seen in steps]))
        norms = torch.stack([seen.grad_norm.float() for seen in steps])
        read = torch.stack([losses, norms]).tolist()
        return [(loss / seen.target_tokens, norm) for seen, loss, norm in zip(steps, *read, strict=True)]

    def _judge(self, seen: Seen, loss: float, norm: float) -> bool:
        counters = self._state.counters
        if not (math.isfinite(loss) and math.isfinite(norm)):
            what = f"loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
            if self._has_loss_scaler and math.isfinite(loss):
                # Too large a scale, not a broken step: the scaler skips it by itself, and lowers the scale.
                self._count_skip(seen, f"{what} with this loss scale")
                return True
            if self._config.on_nonfinite == "halt":
                raise self._diverged(what, seen)
            self._count_skip(seen, what)
            return False
        if self._config.on_loss_spike == "skip" and (spike := self._spike_in(loss)):
            counters.loss_spikes += 1
            self._count_skip(seen, spike)
            return False
        counters.skipped_in_a_row = 0
        if self._config.on_loss_spike == "skip":
            self._remember(loss)
        else:
            self._losses.append((seen.step, loss))
        return True

    def _count_skip(self, seen: Seen, why: str) -> None:
        counters = self._state.counters
        counters.skipped_steps += 1
        counters.skipped_in_a_row += 1
        if counters.skipped_in_a_row >= self._config.max_consecutive_skips:
            raise self._diverged(f"{counters.skipped_in_a_row} steps in a row were skipped, the last as {why}", seen)
        is_first = counters.skipped_steps == 1 and "standard deviations" not in why
        found = f"; {self._autopsy.perform(seen.step, seen.random)}" if is_first else ""
        self._say(f"warning: step {seen.step} is skipped: {why}{found}")

    def _spike_in(self, loss: float) -> str | None:
        config, recent = self._config, self._state.counters.recent_losses
        return spike_in(loss, recent, config.loss_spike_window, config.loss_spike_threshold)

    def _remember(self, loss: float) -> None:
        recent = self._state.counters.recent_losses
        recent.append(loss)
        del recent[: -self._config.loss_spike_window]

    def _handle_spike(self, step: int, spike: str) -> bool:
        """Warn, or go back; whether the steps since then are undone."""
        counters = self._state.counters
        counters.loss_spikes += 1
        if self._config.on_loss_spike == "warn":
            self._say(f"warning: {spike}, at step {step}")
            return False
        self._checkpoints.wait()
        target = roll_back(self._autopsy.work, self._state, self._config.save_steps)
        if target is None:
            self._say(f"warning: {spike}, at step {step}; there is no checkpoint to go back to yet")
            return False
        counters.rollbacks += 1
        self._num_rollbacks[target] = self._num_rollbacks.get(target, 0) + 1
        if self._num_rollbacks[target] >= self._config.max_consecutive_skips:
            raise DivergedError(
                f"training diverged: {spike}, at step {step}, after {self._num_rollbacks[target]} rollbacks to step "
                f"{target}; lower train.learning_rate or raise train.loss_spike_threshold"
            )
        self._say(f"warning: {spike}, at step {step}; back to the weights of step {target}, and on with new batches")
        return True

    def _diverged(self, what: str, seen: Seen) -> DivergedError:
        found = self._autopsy.perform(seen.step, seen.random)
        self._checkpoints.wait()
        return _diverged(what, seen.step, self._autopsy.work, found, can_skip=self._config.on_nonfinite != "skip")


def check_finite(values: Mapping[str, float], step: int, work: Path) -> None:
    """Raises DivergedError naming the first of the values that is not finite."""
    for tag, value in values.items():
        if not math.isfinite(value):
            raise _diverged(f"{tag} is {value}", step, work)


def check_weights(model: nn.Module, step: int, work: Path) -> None:
    """Raises DivergedError when a weight is not finite. Copies one value from the device."""
    norms = torch._foreach_norm([parameter.detach() for parameter in model.parameters()], dtype=torch.float32)
    if not bool(torch.stack([whole(norm) for norm in norms]).isfinite().all()):
        raise _diverged("a weight is not finite", step, work)


def _diverged(what: str, step: int, work: Path, found: str = "", can_skip: bool = True) -> DivergedError:
    saved = list_checkpoints(work)
    good = f"the last good checkpoint is of step {step_of(saved[-1])}" if saved else "no checkpoint was saved before"
    return DivergedError(
        f"training diverged: {what} at step {step}{f'; {found}' if found else ''}; {good}; lower train.learning_rate, "
        f"raise train.warmup_steps, set or lower train.max_grad_norm{', or set train.on_nonfinite: skip' * can_skip}"
    )


def _skips_on_the_device(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer leaves weights and its own state alone when its `found_inf` is 1."""
    known = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return (
        type(optimizer) in known
        and getattr(optimizer, "_step_supports_amp_scaling", False)
        and not any(isinstance(parameter, DTensor) for parameter in parameters)
    )


def _nothing(message: str) -> None:
    return None
