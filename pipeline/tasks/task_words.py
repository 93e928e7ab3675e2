"""How a model's task is spoken of: its figures, what they are compared by, and its name on the Hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.evaluation.metrics import Figure

DOCUMENTS = Figure("documents", "documents", "count", "")


@dataclass(frozen=True)
class TaskWords:
    """What report and card say of a task. `verdict` compares the model's main figure with a baseline's."""

    noun: str
    target: str
    window: str
    loss: str
    figures: tuple[Figure, ...]
    main: Figure
    verdict: Callable[[float, float], str]
    hub_tag: str
    hub_task: tuple[str, str]
    limitation: str
    is_generative: bool = False
    """Whether the model writes text."""

    @property
    def better(self) -> str:
        """Which main figure is better, `lower` or `higher`."""
        return self.main.better
