"""Other trainings that a longer or shorter one can go on from: its checkpoints, and re-warming from its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from pipeline.errors import MissingInputError
from pipeline.training.checkpointing.checkpoints import checkpoint_of, list_checkpoints, step_of
from pipeline.training.checkpointing.extending import find_checkpoint
from pipeline.training.optimization.optimization_config import NEVER_END, EarlierTraining
from pipeline.training.optimization.schedules import check_phases, num_steps
from pipeline.training.train_config import LENGTHS, PATIENCE, TrainConfig

REWARMING = ("rewarm_steps", "rewarm_from")
GO_ON = (*NEVER_END, "warmup_stable_decay")
"""Schedules with which raising the length alone goes on from a finished training."""

Settings = Mapping[str, Any]
Counts = Mapping[str, Any]
"""What pack counted in an epoch of a split: `windows` and `target_tokens`."""


class OtherTraining(Protocol):
    """A training, finished or not, that differs from the one that is to be in its settings alone."""

    @property
    def key(self) -> str: ...

    @property
    def section(self) -> dict[str, Any]:
        """Its settings, as JSON values."""

    @property
    def summary(self) -> dict[str, Any] | None:
        """What it came to; None where it is not finished."""

    @property
    def work(self) -> Path:
        """The folder of its checkpoints."""

    @property
    def differences(self) -> list[str]:
        """What the one that is to be has instead, in words."""


Other = TypeVar("Other", bound=OtherTraining)


def find_continuation(
    config: TrainConfig, own: Settings, work: Path, split: Counts, others: Iterable[OtherTraining]
) -> tuple[tuple[str, Path, str] | None, tuple[str, ...]]:
    """Find another training that differs in its length alone and has a newer checkpoint than `work`. Returns its key,
    the checkpoint and the reason in words; or None, and remarks on why not. A training begun in another precision gets
    a remark as well. `own` are the settings of `config` as JSON values."""
    saved, others = list_checkpoints(work), list(others)
    newest = step_of(saved[-1]) if saved else 0
    problems: dict[int, str] = {}  # by the steps that re-warming could go on from: those of the most are said
    found: tuple[str, Path, str] | None = None
    for other in _like(others, own, _without_length):
        earlier = config.model_copy(update=_length(other.section))
        checkpoint = find_checkpoint(config, earlier, split["windows"], split["target_tokens"], other.work)
        if isinstance(checkpoint, str):
            steps = _num_steps(config, split)
            instead, taken = "", _steps_to_rewarm(config, other, steps)
            if taken:
                rewarm = rewarm_steps_for(config, steps - taken)
                instead = f"; train.rewarm_steps={rewarm} goes on from its {taken:,} steps instead"
            problems.setdefault(taken, f"cannot go on from training {other.key}: {checkpoint}{instead}")
        elif step_of(checkpoint) > newest:
            newest = step_of(checkpoint)
            is_rewarmed = newest == max(config.rewarmed_at, default=None)
            rewarmed = f"re-warmed over {config.rewarm_steps} steps: " if is_rewarmed else ""
            shown = [line for line in other.differences if not (is_rewarmed and line.startswith("train.rewarm_"))]
            found = (other.key, checkpoint, f"{rewarmed}continues training {other.key}: {'; '.join(shown)}")
    if not newest and not problems:
        # On a machine of another kind `auto` comes to something else.
        for other in _like(others, own, _without_precision):
            saved = list_checkpoints(other.work)
            if saved and other.summary is None:
                changes = "; ".join(other.differences)
                problems[0] = f"does not go on from training {other.key} at step {step_of(saved[-1])}: {changes}"
                break
    return found, () if newest or not problems else (problems[max(problems)],)


def find_rewarmed(
    config: TrainConfig, own: Settings, split: Counts, others: Iterable[OtherTraining]
) -> list[EarlierTraining]:
    """The ends of the trainings that one goes on from which asks for re-warming and does not say where. A training that
    did so already is repeated; else it is the longest finished one that is shorter.

    Raises MissingInputError where there is none, ConfigError where it leaves too few steps.
    """
    steps = _num_steps(config, split)
    trainings = list(_like(others, own, _without_length))
    finished = [other for other in trainings if other.summary is not None]
    length = _length(own)
    for found in (_length(other.section) for other in (*finished, *trainings)):
        if found["rewarm_from"] and found == {**length, "rewarm_from": found["rewarm_from"]}:
            return list(found["rewarm_from"])
    taken = [((other.summary or {}).get("steps"), other) for other in finished]
    shorter = [(count, other) for count, other in taken if isinstance(count, int) and 0 < count < steps]
    if not shorter:
        raise MissingInputError(
            f"train.rewarm_steps: the workspace has no finished training of fewer than {steps:,} steps that differs in "
            "its length alone, to go on from; remove it, or see what differs with descent status"
        )
    last, longest = max(shorter, key=lambda one: one[0])
    earlier = config.model_copy(update=_length(longest.section))
    end = EarlierTraining(steps=last, schedule_steps=_num_steps(earlier, split), rewarm_steps=earlier.rewarm_steps)
    ends = [*earlier.rewarm_from, end]
    check_phases(config.model_copy(update={"rewarm_from": ends}), steps)
    return ends


def asks_for_rewarming(config: TrainConfig) -> str:
    """What to do in a workspace without a finished training where the settings say to go on from one, but not from
    which; "" where they do not."""
    if config.rewarm_steps is None or config.rewarm_from:
        return ""
    return (
        "train.rewarm_steps: the workspace has no finished training yet to go on from; remove it, or finish a shorter "
        "one first"
    )


def how_to_train_longer(config: TrainConfig, steps: int) -> str:
    """What to type to go on from a finished training of so many steps, where raising its length alone begins anew; ""
    where that goes on."""
    if config.lr_scheduler_type in GO_ON:
        return ""
    rewarm = rewarm_steps_for(config, steps)
    return f"train.max_steps={2 * steps} train.rewarm_steps={rewarm} goes on from these {steps:,} steps"


def rewarm_steps_for(config: TrainConfig, steps: int) -> int:
    """Steps to re-warm over where so many are to come: as in the warm-up, and at most a tenth of them."""
    return max(1, min(config.warmup_steps or steps, steps // 10))


def _steps_to_rewarm(config: TrainConfig, other: OtherTraining, steps: int) -> int:
    """Steps of a finished training from which a training of so many steps could go on by re-warming; 0 for none."""
    taken = (other.summary or {}).get("steps")
    if config.rewarm_steps is not None or config.lr_scheduler_type in NEVER_END or not isinstance(taken, int):
        return 0
    return taken if taken < steps and checkpoint_of(other.work, taken).is_dir() else 0


def _num_steps(config: TrainConfig, split: Counts) -> int:
    return num_steps(config, split["windows"], split["target_tokens"])


def _like(others: Iterable[Other], own: Settings, what_counts: Callable[[Settings], dict[str, Any]]) -> Iterator[Other]:
    """The trainings whose settings are `own` but for what does not count."""
    wanted = what_counts(own)
    for other in others:
        with suppress(ValidationError, TypeError):  # of settings that nobody could have written
            if what_counts(other.section) == wanted:
                yield other


def _length(section: Settings) -> dict[str, Any]:
    """The settings that say how long a training is: how many steps, what it goes on from, and, where it may end early,
    how patient it is."""
    found = {name: section.get(name) for name in (*LENGTHS, PATIENCE, *REWARMING)}
    return {**found, "rewarm_from": [EarlierTraining.model_validate(one) for one in found["rewarm_from"] or ()]}


def _without_length(section: Settings) -> dict[str, Any]:
    """All other settings, and whether it may end early."""
    length = _length(section)
    others = {name: value for name, value in section.items() if name not in length}
    return others | {"ends_early": length[PATIENCE] is not None}


def _without_precision(section: Settings) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name != "mixed_precision"}
