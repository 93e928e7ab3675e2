"""The part of `train:` that says how weights move: optimizer, schedule, clipping, objective, averages, sparsity."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from pipeline.console.terminal_text import did_you_mean
from pipeline.known_names import known_names
from pipeline.section import Alternatives, Runtime, Section
from pipeline.training.optimization.optimizers import FAMILIES
from pipeline.training.optimization.optimizers.adam import AdamConfig
from pipeline.training.optimization.optimizers.sgd import SgdConfig
from pipeline.training.optimization.optimizers.torch_class import NOT_STEPWISE

OWN_FIELDS = {"lr": "learning_rate", "weight_decay": "weight_decay", "params": "parameter_groups"}

SCHEDULER_KWARGS: dict[str, tuple[str, ...]] = {
    "linear": (),
    "cosine": ("num_cycles",),
    "cosine_with_restarts": ("num_cycles",),
    "polynomial": ("power", "lr_end"),
    "constant": (),
    "constant_with_warmup": (),
    "inverse_sqrt": ("timescale",),
    "cosine_with_min_lr": ("num_cycles", "min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("num_cycles", "min_lr", "min_lr_rate", "warmup_lr_rate"),
    "warmup_stable_decay": (
        "num_decay_steps", "num_stable_steps", "warmup_type", "decay_type", "min_lr_ratio", "num_cycles",
    ),
}  # fmt: skip
"""Schedules, and the keys of `lr_scheduler_kwargs` that each takes."""
POLYNOMIAL_END = 1e-7
"""Rate at which transformers' polynomial ends when nothing is said."""
NEED_METRICS = ("reduce_lr_on_plateau", "greedy")
NEVER_END = ("constant", "constant_with_warmup", "inverse_sqrt")
FLOORS = (
    "min_lr_ratio", "lr_scheduler_kwargs.lr_end", "lr_scheduler_kwargs.min_lr", "lr_scheduler_kwargs.min_lr_rate",
    "lr_scheduler_kwargs.min_lr_ratio",
)  # fmt: skip
"""Settings that say where a schedule ends."""
Ramp = Literal["linear", "cosine", "1-sqrt"]


def _is_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None
    return text


Pattern = Annotated[str, Field(min_length=1), AfterValidator(_is_pattern)]
"""A regular expression of Python, searched for anywhere in a parameter's full name."""


class ParameterGroup(Section):
    """Parameters with a learning rate or weight decay of their own."""

    pattern: Pattern
    """Regular expression, searched for anywhere in a parameter's name, such as "embed" or "layers\\.0\\."."""

    learning_rate: float | None = Field(default=None, gt=0)
    """Highest learning rate of these parameters; it follows the same schedule. Null is `train.learning_rate`."""

    weight_decay: float | None = Field(default=None, ge=0)
    """Weight decay of all of these parameters, be they norms, biases or embeddings. Null is as without the group."""

    @model_validator(mode="after")
    def _sets_something(self) -> Self:
        if self.learning_rate is None and self.weight_decay is None:
            raise ValueError("give learning_rate, weight_decay or both")
        return self


class SchedulerKwargs(Section):
    """What only some schedules take, under transformers' names."""

    num_cycles: float | None = Field(default=None, gt=0)
    """Waves of a cosine: 0.5, half a wave, by default; in `cosine_with_restarts` whole falls, 1 by default."""

    power: float = Field(default=1.0, gt=0)
    """Exponent of `polynomial`."""

    lr_end: float | None = Field(default=None, ge=0)
    """Learning rate at which `polynomial` ends, 1e-7 by default."""

    min_lr: float | None = Field(default=None, ge=0)
    """Learning rate at which the cosines with a minimum end."""

    min_lr_rate: float | None = Field(default=None, ge=0, le=1)
    """The same as a part of `learning_rate`."""

    min_lr_ratio: float | None = Field(default=None, ge=0, le=1)
    """The part of `learning_rate` at which `warmup_stable_decay` begins and ends."""

    warmup_lr_rate: float | None = Field(default=None, ge=0, le=1)
    """The part of `learning_rate` at which `cosine_warmup_with_min_lr` begins."""

    timescale: int | None = Field(default=None, ge=1)
    """Steps in which `inverse_sqrt` falls by the square root of two; the warm-up's by default, or 10,000."""

    num_decay_steps: int | None = Field(default=None, ge=1)
    """Last steps in which `warmup_stable_decay` falls."""

    num_stable_steps: int | None = Field(default=None, ge=0)
    """Steps at the full rate in `warmup_stable_decay`. Null takes those that warm-up and decay leave."""

    warmup_type: Ramp = "linear"
    """Shape in which `warmup_stable_decay` rises."""

    decay_type: Ramp = "cosine"
    """Shape in which `warmup_stable_decay` falls."""


class EarlierTraining(Section):
    """The end of a training from which another one goes on."""

    steps: int = Field(ge=1)
    """Steps that it took."""

    schedule_steps: int = Field(ge=1)
    """Steps of its whole schedule, which are more where it stopped early."""

    rewarm_steps: int | None = Field(default=None, ge=1)
    """Steps over which it was re-warmed itself. Null for one that began anew."""


class OptimizationConfig(SgdConfig, AdamConfig):
    """How weights move. Names are those of transformers' TrainingArguments where it has one."""

    alternatives: ClassVar[Alternatives] = (("warmup_steps", "warmup_ratio"), FLOORS)

    optim: str = Field(
        default="adamw_torch_fused", description=" ".join(" ".join(str(family.__doc__).split()) for family in FAMILIES)
    )

    parameter_groups: list[ParameterGroup] = Field(default_factory=list)
    """Parameters with rates of their own. A parameter belongs to the first group whose pattern its name holds."""

    lr_scheduler_type: Literal[
        "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
        "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay",
    ] = "cosine"  # fmt: skip
    """Shape of the learning rate: every schedule of transformers that is a function of the step, with its numbers.
    `constant` warms up where a warm-up is given."""

    lr_scheduler_kwargs: SchedulerKwargs = Field(default_factory=SchedulerKwargs)
    """What only some schedules take, under transformers' names."""

    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises to `learning_rate`, from 0 in the first step."""

    warmup_ratio: float | None = Field(default=None, ge=0, le=1)
    """The same as a part of all steps, rounded up. Give at most one of the two."""

    rewarm_steps: int | None = Field(default=None, ge=1)
    """Go on from the longest finished training of the workspace that is shorter and differs in its length alone, with
    its optimizer and its order of data: over so many steps the learning rate rises linearly from where the earlier
    schedule ended to `learning_rate`, then follows the schedule over the steps that remain (Ibrahim et al. 2024,
    "Simple and Scalable Strategies to Continually Pre-train Large Language Models"). `max_steps` counts those of both.
    For schedules that have an end; with the others a longer training goes on by itself."""

    rewarm_from: list[EarlierTraining] = Field(default=[])
    """The ends of the trainings that `rewarm_steps` goes on from, the first one first. An empty list finds them in the
    workspace; a run's config.yaml tells what was found, and repeats all of it wherever they are not there."""

    min_lr_ratio: float = Field(default=0.0, ge=0, le=1)
    """The part of `learning_rate` at which a falling schedule ends."""

    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """Gradients whose global norm is larger are scaled down to it. Null never scales."""

    max_grad_value: float | None = Field(default=None, gt=0)
    """Every entry of the gradient is cut to this size, before the norm is. Null cuts none."""

    label_smoothing_factor: float = Field(default=0.0, ge=0, lt=1)
    """Part of the target's probability that is spread evenly over the vocabulary (Szegedy et al. 2016). `train/loss`
    stays the plain cross-entropy; what is minimized is `train/objective`."""

    z_loss_coef: float = Field(default=0.0, ge=0)
    """Weight of the squared logarithm of the softmax's normalizer, which keeps logits from drifting; 1e-4 in PaLM
    (Chowdhery et al. 2022)."""

    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Keep an exponential moving average of the weights with this decay, lower in the first steps: after t of them
    at most (1 + t) / (10 + t). Null keeps none."""

    eval_ema: Annotated[bool, Runtime()] = False
    """Validate the averaged weights as well, as `eval/ema_loss`."""

    gradient_density: float | None = Field(default=None, gt=0, le=1)
    """Keep this part of each tensor's gradient entries, the largest ones, and set the others to 0; at least one is
    kept. It sparsifies gradients: momentum and weight decay still move every weight. Null keeps all."""

    freeze: list[Pattern] = Field(default_factory=list)
    """Parameters whose name holds one of these regular expressions are not trained."""

    @field_validator("optim")
    @classmethod
    def _is_an_optimizer(cls, name: str) -> str:
        if reasons := [reason for family in FAMILIES if (reason := family.why_not(name))]:
            raise ValueError(f"{name} cannot be used: {reasons[0]}")
        if not any(family.knows(name) for family in FAMILIES):
            known = [name for family in FAMILIES for name in family.names]
            classes = [name for name in known_names("torch.optim") if name not in NOT_STEPWISE]
            short = name.removeprefix("torch.optim.")
            longer = [other for other in (*known, *classes) if other.lower().startswith(short.lower())]
            hint = f"; did you mean {longer[0]}?" if longer else did_you_mean(short, [*known, *classes], otherwise="")
            raise ValueError(f"got {name!r}; allowed: {', '.join(known)} or torch.optim's {', '.join(classes)}{hint}")
        return name

    @field_validator("lr_scheduler_type", mode="before")
    @classmethod
    def _is_a_function_of_the_step(cls, name: object) -> object:
        if name in NEED_METRICS:
            raise ValueError(
                f"{name} follows the losses of the run, so its rate is no function of the step; choose "
                "warmup_stable_decay or another schedule"
            )
        return name

    @field_validator("optim_args")
    @classmethod
    def _leaves_the_fields_their_part(cls, values: dict[str, Any]) -> dict[str, Any]:
        for key in values:
            if key in OWN_FIELDS:
                raise ValueError(f"remove {key}: it is train.{OWN_FIELDS[key]}")
        return values

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        kind, extra = self.lr_scheduler_type, self.lr_scheduler_kwargs
        given = {key for key, field in SchedulerKwargs.model_fields.items() if getattr(extra, key) != field.default}
        allowed = SCHEDULER_KWARGS[kind]
        for key in sorted(given - set(allowed)):
            takes = f"it takes {', '.join(allowed)}" if allowed else "it takes none"
            raise ValueError(f"lr_scheduler_kwargs.{key} is not for {kind}; {takes}; remove it")
        if self.min_lr_ratio and kind in NEVER_END:
            raise ValueError(f"min_lr_ratio is where a schedule ends, but {kind} has no end; remove it")
        if kind.endswith("with_min_lr") and not any(map(self._differs_from_default, FLOORS)):
            raise ValueError(
                f"{kind} needs lr_scheduler_kwargs.min_lr_rate, lr_scheduler_kwargs.min_lr or min_lr_ratio"
            )
        end = POLYNOMIAL_END if extra.lr_end is None and not self.min_lr_ratio else extra.lr_end
        if kind == "polynomial" and end is not None and end >= self.learning_rate:
            raise ValueError(f"lr_scheduler_kwargs.lr_end {end} is not below learning_rate {self.learning_rate}")
        if extra.min_lr is not None and extra.min_lr > self.learning_rate:
            rate = self.learning_rate
            raise ValueError(f"lr_scheduler_kwargs.min_lr {extra.min_lr} is more than learning_rate {rate}")
        if kind == "warmup_stable_decay" and "num_decay_steps" not in given:
            raise ValueError("warmup_stable_decay needs lr_scheduler_kwargs.num_decay_steps")
        return self

    @property
    def rewarmed_at(self) -> tuple[int, ...]:
        """Steps after which the learning rate is re-warmed."""
        return tuple(earlier.steps for earlier in self.rewarm_from)

    @model_validator(mode="after")
    def _rewarming_fits(self) -> Self:
        if self.rewarm_from and self.rewarm_steps is None:
            raise ValueError("rewarm_from needs rewarm_steps")
        if self.rewarm_steps is not None and self.lr_scheduler_type in NEVER_END:
            raise ValueError(
                f"rewarm_steps is for schedules that end; with {self.lr_scheduler_type} a longer training goes on by "
                "itself; remove it"
            )
        return self

    @model_validator(mode="after")
    def _optimization_fits(self) -> Self:
        if self.eval_ema and self.ema_decay is None:
            raise ValueError("eval_ema needs ema_decay")
        return self
