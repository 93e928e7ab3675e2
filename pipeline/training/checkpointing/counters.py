"""The progress of a training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from pipeline.telemetry.noise_scale import NoiseScale
from pipeline.training.guarding.spikes import NamedSpike, SpikeWindow


@dataclass
class Counters:
    """Progress of a training. Every checkpoint holds it.

    `seconds` adds up over restarts. `evaluation_due`: the validation after this step has to be run. `best` is
    the lowest validation loss, where that is what will be exported; `lowest` is that of the validations that decide
    about an early end.
    """

    step: int = 0
    target_tokens: int = 0
    seconds: float = 0.0
    evaluation_due: bool = False
    best_step: int | None = None
    best_loss: float | None = None
    resumed_from_steps: list[int] = field(default_factory=list)
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    rollbacks: int = 0
    losses: SpikeWindow = field(default_factory=SpikeWindow)
    grad_norms: SpikeWindow = field(default_factory=SpikeWindow)
    named_spikes: list[NamedSpike] = field(default_factory=list)
    noise_scale: NoiseScale = field(default_factory=NoiseScale)
    lowest_loss: float | None = None
    lowest_loss_step: int | None = None
    validations_without_improvement: int = 0

    @classmethod
    def from_state(cls, values: dict[str, Any]) -> Self:
        """The counters of a checkpoint, from what `asdict` gave."""
        windows = {name: SpikeWindow(**values[name]) for name in ("losses", "grad_norms")}
        named = [NamedSpike(**spike) for spike in values.get("named_spikes", [])]
        scale = NoiseScale(**values["noise_scale"])
        return cls(**{**values, **windows, "named_spikes": named, "noise_scale": scale})

    def note_best(self, loss: float) -> None:
        """Remember this step if its validation loss is the lowest so far."""
        if self.best_loss is None or loss < self.best_loss:
            self.best_step, self.best_loss = self.step, loss
