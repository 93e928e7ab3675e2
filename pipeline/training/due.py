"""What is due after a step."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.training.optimization.schedules import decay_start
from pipeline.training.train_config import TrainConfig

FIRST_RECORDS = 3
"""Records from the first on that measure matrices in any case: as many as a verdict on them needs."""

HISTOGRAMS_EVERY, EARLY_HISTOGRAMS = 5, (2, 4, 8)
"""Intervals of `telemetry_steps` between two sets of histograms, and after so many there is one too: of a short
training one is near the middle and one near the end."""


@dataclass(frozen=True)
class Due:
    """What is due after a step of a training of `max_steps`, by its number alone. Signals, clocks and losses may make
    more due."""

    config: TrainConfig
    max_steps: int

    def end(self, step: int) -> bool:
        """The training ends, or is re-warmed because an earlier one ended here."""
        return step == self.max_steps or step in self.config.rewarmed_at

    def log(self, step: int) -> bool:
        """Log the training loss."""
        return self.end(step) or self.regular_log(step)

    def regular_log(self, step: int) -> bool:
        """Log the training loss, even if this is not the end. With early stopping that is also so at every validation,
        since each may turn out to be the end."""
        stops_early = self.config.early_stopping_patience is not None
        return self.new_sums(step) or (stops_early and self.regular_validation(step))

    def new_sums(self, step: int) -> bool:
        """Begin the sums of losses and norms anew. A log at the end keeps them: a longer training continues them up to
        its next regular log."""
        return _is_multiple(step, self.config.logging_steps)

    def telemetry(self, step: int) -> bool:
        """Measure the matrices: by the interval, at the first records, and at a record that there is only because the
        training ends. So the records that a longer training keeps do not depend on this one's length."""
        if not self.new_sums(step):
            return self.end(step) and not self.regular_log(step)
        return step <= FIRST_RECORDS * self.config.logging_steps or _is_multiple(step, self.config.telemetry_interval)

    def histograms(self, step: int) -> bool:
        """Count the entries of matrices and outputs in buckets, and draw: before the first step, at the first record,
        at every fifth measurement that the interval makes due and at some of the first, and at a record that there is
        only because the training ends."""
        interval = self.config.telemetry_interval
        is_early = step in {number * interval for number in EARLY_HISTOGRAMS}
        wanted = is_early or _is_multiple(step, HISTOGRAMS_EVERY * interval)
        is_first = step == self.config.logging_steps
        return self.telemetry(step) and (wanted or is_first or not self.new_sums(step))

    def anatomy(self, step: int) -> bool:
        """Take the step apart: before the first, and after 10, 100, 1,000, ... steps."""
        return step == 0 or (step >= 10 and str(step).strip("0") == "1")

    def benchmarks(self, step: int) -> bool:
        """Measure the benchmarks, in the record of the step."""
        return _is_multiple(step, self.config.benchmark_steps)

    def noise(self, step: int) -> bool:
        """Measure the noise of the gradient: with the matrices, but not for a record that there is only because the
        training ends. It goes into an average, which a longer training continues."""
        return self.new_sums(step) and self.telemetry(step)

    def validation(self, step: int) -> bool:
        """Measure the validation split."""
        return self.end(step) or self.regular_validation(step)

    def regular_validation(self, step: int) -> bool:
        """Measure the validation split, even if this is not the end."""
        return _is_multiple(step, self.config.eval_steps)

    def checkpoint(self, step: int) -> bool:
        """Save a checkpoint. A longer training continues from the one before the decay."""
        return _is_multiple(step, self.config.save_steps) or step == decay_start(self.config, self.max_steps)


def _is_multiple(step: int, interval: int | None) -> bool:
    return interval is not None and step % interval == 0
