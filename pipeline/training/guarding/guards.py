"""What happens to steps whose loss or gradient is not finite, or far above those before.

A step that is not finite must not reach the weights. Torch's fused Adam and SGD can skip it on the device, so with
`halt` the host reads losses and norms at the next record only. Every other choice reads them from the device once a
step, before the optimizer runs; that wait is the price of skipping.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from pipeline.errors import DivergedError
from pipeline.modeling.sharding import whole
from pipeline.training.checkpointing.checkpoints import CheckpointWriter, list_checkpoints, step_of
from pipeline.training.checkpointing.random_states import GeneratorStates, generator_states
from pipeline.training.guarding.autopsy import Autopsy
from pipeline.training.guarding.spikes import MOST_NAMED, NamedSpike
from pipeline.training.optimization.optimizers import family_of
from pipeline.training.train_config import TrainConfig

if TYPE_CHECKING:
    from pipeline.training.train_state import TrainState


@dataclass(frozen=True)
class StepRecord:
    """Loss and gradient norm of a step, still on the device, and the random states from which it can be run again.
    `loss_sum` covers this process's targets; `target_tokens` those of all processes."""

    step: int
    loss_sum: torch.Tensor
    target_tokens: int
    grad_norm: torch.Tensor
    random: GeneratorStates


@dataclass(frozen=True)
class Spike:
    """A loss far above those before; `why` says so in words."""

    step: int
    why: str


class Guard:
    """Skips bad steps, or ends the training on them. Call `begin` before the forward pass, `judge_step` before the
    optimizer step, and `read_steps` before logging or saving. All processes decide alike."""

    def __init__(
        self,
        config: TrainConfig,
        state: TrainState,
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
            and _skips_on_the_device(config.optim, state.unwrapped_optimizer)
        )
        self._found = torch.zeros((), device=state.running_sums.norms.device)
        self._unread: list[StepRecord] = []
        self._unjudged: list[tuple[int, float, float]] = []
        self._num_rollbacks: dict[int, int] = {}

    def begin(self) -> None:
        """Keep the random states from which the step that begins can be run again."""
        self._random = generator_states()

    def judge_step(self, loss_sum: torch.Tensor, grad_norm: torch.Tensor, target_tokens: int) -> bool:
        """Whether the optimizer may take the step; False skips it. Where the optimizer can skip it on the device, the
        step is judged in `read_steps`. Warns of a skipped step; raises DivergedError if it ends the training."""
        record = StepRecord(self._state.counters.step, loss_sum, target_tokens, grad_norm, self._random)
        if self._is_deferred:
            self._unread.append(record)
            return True
        [(loss, norm)] = self._read([record])
        return self._judge(record, loss, norm)

    def set_found_inf(self, optimizer: torch.optim.Optimizer) -> None:
        """Tell an optimizer that skips on the device whether the last step was finite. From a bad step on it changes no
        weight, until `read_steps` ends the training."""
        if self._is_deferred:
            last = self._unread[-1]
            is_bad = ~(last.loss_sum.isfinite() & last.grad_norm.isfinite())
            self._found = torch.maximum(self._found, is_bad.float())
            optimizer.found_inf = self._found  # type: ignore[attr-defined]

    def read_steps(self) -> None:
        """Read the steps since the last call from the device. Raises DivergedError on one that is not finite."""
        unread, self._unread = self._unread, []
        for record, (loss, norm) in zip(unread, self._read(unread), strict=True):
            self._judge(record, loss, norm)

    def next_spike(self) -> Spike | None:
        """The next spike of the losses read, to go back before; None when all steps are looked at. Counts spikes, and
        says those that are not gone back before. A gradient that was large does no harm where the loss stays."""
        while self._unjudged:
            step, loss, norm = self._unjudged.pop(0)
            if self._config.on_loss_spike == "ignore":
                continue
            of_loss, of_norm = self._spikes_in(step, loss, norm)
            if of_loss and self._config.on_loss_spike == "rollback":
                return Spike(step, of_loss)
            if of_loss:
                self._say(f"warning: {of_loss}, at step {step}")
            if of_norm:
                self._say(f"{of_norm}, at step {step}")
        return None

    def note_rollback(self, spike: Spike, target: int | None) -> None:
        """Count a rollback to the step `target`, None if there was no checkpoint. The later steps read are of weights
        that are gone. Raises DivergedError after too many rollbacks to one step."""
        if target is None:
            self._say(f"warning: {spike.why}, at step {spike.step}; there is no checkpoint to go back to yet")
            return
        self._unjudged = []
        self._state.counters.rollbacks += 1
        self._num_rollbacks[target] = self._num_rollbacks.get(target, 0) + 1
        if self._num_rollbacks[target] >= self._config.max_consecutive_skips:
            raise DivergedError(
                f"training diverged: {spike.why}, at step {spike.step}, after {self._num_rollbacks[target]} rollbacks "
                f"to step {target}; lower train.learning_rate or raise train.loss_spike_threshold"
            )
        self._say(
            f"warning: {spike.why}, at step {spike.step}; back to the weights of step {target}, and on with new batches"
        )

    def _read(self, steps: list[StepRecord]) -> list[tuple[float, float]]:
        """Mean losses over the target tokens of all processes, and gradient norms."""
        if not steps:
            return []
        losses = self._state.processes.all_reduce_sum(torch.stack([record.loss_sum.float() for record in steps]))
        norms = torch.stack([record.grad_norm.float() for record in steps])
        read = torch.stack([losses, norms]).tolist()
        return [(loss / record.target_tokens, norm) for record, loss, norm in zip(steps, *read, strict=True)]

    def _judge(self, record: StepRecord, loss: float, norm: float) -> bool:
        counters = self._state.counters
        if not (math.isfinite(loss) and math.isfinite(norm)):
            what = f"loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
            if self._has_loss_scaler and math.isfinite(loss):
                # Too large a scale, not a broken step: the scaler skips it by itself, and lowers the scale.
                self._count_skip(record, f"{what} with this loss scale")
                return True
            if self._config.on_nonfinite == "halt":
                raise self._diverged(what, record)
            self._count_skip(record, what)
            return False
        if self._config.on_loss_spike != "skip":
            self._unjudged.append((record.step, loss, norm))
        elif spikes := [words for words in self._spikes_in(record.step, loss, norm) if words]:
            self._count_skip(record, "; ".join(spikes), is_spike=True)
            return False
        self._state.running_sums.note(record.step, loss, norm)
        counters.skipped_in_a_row = 0
        return True

    def _count_skip(self, record: StepRecord, why: str, *, is_spike: bool = False) -> None:
        counters = self._state.counters
        counters.skipped_steps += 1
        counters.skipped_in_a_row += 1
        if counters.skipped_in_a_row >= self._config.max_consecutive_skips:
            raise self._diverged(f"{counters.skipped_in_a_row} steps in a row were skipped, the last as {why}", record)
        needs_autopsy = counters.skipped_steps == 1 and not is_spike
        found = f"; {self._autopsy.perform(record.step, record.random)}" if needs_autopsy else ""
        self._say(f"warning: step {record.step} is skipped: {why}{found}")

    def _spikes_in(self, step: int, loss: float, norm: float) -> list[str]:
        """What is odd about the loss and about the gradient norm of a step, in words; "" where nothing is. Takes both
        among those that judge the next."""
        config, counters = self._config, self._state.counters
        words = []
        for name, value, window in (("loss", loss, counters.losses), ("gradient norm", norm, counters.grad_norms)):
            found = window.add(value, config.loss_spike_window, config.loss_spike_threshold)
            words.append(found.in_words(name) if found else "")
        of = " and ".join(name for name, told in zip(("loss", "gradient norm"), words, strict=True) if told)
        if of and len(counters.named_spikes) < MOST_NAMED:
            counters.named_spikes.append(NamedSpike(step, of))
        return words

    def _diverged(self, what: str, record: StepRecord) -> DivergedError:
        found = self._autopsy.perform(record.step, record.random)
        self._checkpoints.wait()
        return _diverged(what, record.step, self._autopsy.work, found, can_skip=self._config.on_nonfinite != "skip")


def check_finite(values: Mapping[str, float], step: int, work: Path) -> None:
    """Raises DivergedError naming the first of the values that is not finite."""
    for tag, value in values.items():
        if not math.isfinite(value):
            raise _diverged(f"{tag} is {value}", step, work)


def check_finite_weights(model: nn.Module, step: int, work: Path) -> None:
    """Raises DivergedError when a weight is not finite. Copies one value from the device."""
    norms = torch._foreach_norm([parameter.detach() for parameter in model.parameters()], dtype=torch.float32)
    if not bool(torch.stack([whole(norm) for norm in norms]).isfinite().all()):
        raise _diverged("a weight is not finite", step, work)


def _diverged(what: str, step: int, work: Path, found: str = "", can_skip: bool = True) -> DivergedError:
    saved = list_checkpoints(work)
    good = f"the last good checkpoint is of step {step_of(saved[-1])}" if saved else "no checkpoint was saved before"
    hint = ", or set train.on_nonfinite: skip" if can_skip else ""
    return DivergedError(
        f"training diverged: {what} at step {step}{f'; {found}' if found else ''}; {good}; lower train.learning_rate, "
        f"raise train.warmup_steps, set or lower train.max_grad_norm{hint}"
    )


def _skips_on_the_device(name: str, optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer leaves weights and its own state alone when its `found_inf` is 1."""
    is_fused = getattr(optimizer, "_step_supports_amp_scaling", False)
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    is_cut = any(isinstance(parameter, DTensor) for parameter in parameters)
    return is_fused and not is_cut and family_of(name).supports_found_inf(name)


def _nothing(message: str) -> None:
    return None
