"""What of a training's records the rules look at, in memory that does not grow with their number."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from pipeline.telemetry.layer_series import Layers, layers_in
from pipeline.telemetry.matrix_figures import figures_of_matrices

WINDOW_RECORDS = 5
MANY_RECORDS = 25
MAX_HISTORY = 512
SPIKES = ("train/loss_spikes", "train/grad_norm_spikes")


@dataclass
class Window:
    """The last records, and what has to be remembered of those before."""

    record: Mapping[str, float] = field(default_factory=dict)
    """The newest record."""

    start: Mapping[str, float] = field(default_factory=dict)
    """The record before the first step; empty where there is none."""

    step: int = 0
    num_losses: int = 0
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW_RECORDS))
    norms: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW_RECORDS))
    """Gradient norms."""

    many_norms: deque[float] = field(default_factory=lambda: deque(maxlen=MANY_RECORDS))
    """The same of more records."""

    history: list[tuple[int, float]] = field(default_factory=list)
    """Steps and medians of the last losses: all, until every second is dropped whenever there are MAX_HISTORY."""

    rate: float = 0.0
    """The last learning rate."""

    rate_steps: float = 0.0
    """The sum of the learning rates of all steps so far, as the records tell them."""

    first_loss: float | None = None
    lowest: tuple[int, float, float] | None = None
    """Step, median and robust standard deviation of the last losses where that median was lowest."""

    early_norms: list[float] = field(default_factory=list)
    """Gradient norms of the first records after the warm-up, but for the very first record."""

    layers: Layers = field(default_factory=dict)
    """Of the newest record; empty where it measured none."""

    weights: dict[str, float] = field(default_factory=dict)
    """Norms of matrices before the step of the newest record that measured them. Biases and zeros are left out."""

    first_weights: dict[str, float] = field(default_factory=dict)
    """The same of the first such record."""

    first_measured: int = 0
    """The step of that."""

    best_eval: tuple[int, float, float] | None = None
    """Step, lowest validation loss, and the median of the training losses then."""

    evals: deque[float] = field(default_factory=lambda: deque(maxlen=2))
    """The last validation losses."""

    spikes: dict[str, deque[float]] = field(default_factory=dict)
    """How many spikes the last records counted, by tag."""

    def add(self, record: Mapping[str, float], warmup_steps: int) -> None:
        """Take one record."""
        steps = int(record["step"]) - self.step
        self.record, self.step, self.layers = record, int(record["step"]), layers_in(record)
        if self.step == 0:
            self.start = record
        self.rate = record.get("train/learning_rate", self.rate)
        self.rate_steps += steps * self.rate
        if weights := figures_of_matrices(record, "weight_norm"):
            self.weights = weights
            if not self.first_weights:
                self.first_weights, self.first_measured = weights, self.step
        if "train/loss" in record:
            self._add_loss(record["train/loss"])
        if "train/grad_norm" in record:
            norm = record["train/grad_norm"]
            self.norms.append(norm)
            self.many_norms.append(norm)
            is_early = len(self.early_norms) < WINDOW_RECORDS
            if is_early and self.step > warmup_steps and self.num_losses > 1:
                self.early_norms.append(norm)
        for tag in SPIKES:
            if tag in record:
                self.spikes.setdefault(tag, deque([0.0], maxlen=4)).append(record[tag])
        if "eval/loss" in record:
            loss = record["eval/loss"]
            self.evals.append(loss)
            if self.best_eval is None or loss < self.best_eval[1]:
                self.best_eval = (self.step, loss, self.loss)

    def _add_loss(self, loss: float) -> None:
        self.num_losses += 1
        self.losses.append(loss)
        if self.first_loss is None:
            self.first_loss = loss
        if len(self.losses) == WINDOW_RECORDS and (self.lowest is None or self.loss < self.lowest[1]):
            deviation = 1.4826 * median(abs(one - self.loss) for one in self.losses)
            self.lowest = (self.step, self.loss, deviation)
        self.history.append((self.step, self.loss))
        if len(self.history) > MAX_HISTORY:
            del self.history[::2]

    @property
    def growth(self) -> float | None:
        """By what half of the matrices have grown, or more, since they were first measured; None of no matrices."""
        grown = sorted(self.weights[name] / first for name, first in self.first_weights.items() if name in self.weights)
        return grown[len(grown) // 2] if grown else None

    @property
    def loss(self) -> float:
        """The median of the last training losses; infinite before the first."""
        return median(self.losses) if self.losses else float("inf")

    def loss_at(self, share: float) -> float | None:
        """The median loss when that share of the steps so far was over; None before the first."""
        return next((loss for step, loss in reversed(self.history) if step <= share * self.step), None)

    @property
    def has_loss(self) -> bool:
        """Whether the newest record has a training loss."""
        return "train/loss" in self.record

    @property
    def has_eval(self) -> bool:
        """Whether the newest record is a validation."""
        return "eval/loss" in self.record
