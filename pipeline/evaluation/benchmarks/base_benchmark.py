"""What every benchmark has: its settings, and scores beside chance."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from pipeline.features import Feature

if TYPE_CHECKING:
    from pipeline.evaluation.trained_model import TrainedModel
    from pipeline.progress import Progress

QUANTILE = 1.96
"""Of the standard normal distribution: 95 % lie within it on both sides."""


@dataclass(frozen=True)
class Score:
    """A figure of a task over `documents` of it. `standard_error` and `chance`, the expected figure of guessing, are
    None where they are not known. Which is `better` is `higher`, `lower`, or "" where neither is."""

    task: str
    metric: str
    value: float
    documents: int
    standard_error: float | None = None
    chance: float | None = None
    better: str = "higher"

    @classmethod
    def of_share(cls, task: str, metric: str, hits: int, documents: int, chance: float) -> Score:
        """A share of documents. Its standard error is sqrt(p (1 - p) / (n - 1)), from the sample variance."""
        share = hits / documents
        error = math.sqrt(share * (1 - share) / (documents - 1)) if documents > 1 else None
        return cls(task, metric, share, documents, error, chance)

    @property
    def against_chance(self) -> str:
        """Whether it lies `above` or `below` chance, or `at` it: within 1.96 standard errors of a guesser's share,
        sqrt(c (1 - c) / n). "" where there is no chance to compare with."""
        if self.chance is None or not 0 < self.chance < 1:
            return ""
        distance = self.value - self.chance
        if abs(distance) <= QUANTILE * math.sqrt(self.chance * (1 - self.chance) / self.documents):
            return "at"
        return "above" if distance > 0 else "below"


class Scores(NamedTuple):
    """What a benchmark gives: scores, and sentences on what is missing from them."""

    scores: Sequence[Score]
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Exported:
    """A trained model with the Hugging Face folder that it was loaded from, the longest input that the folder's users
    should give it, in tokens, and the rows that a device computes at once."""

    trained: TrainedModel
    folder: Path
    max_length: int
    batch_size: int


class Benchmark(Feature):
    """Tasks that others made, for a trained language model."""

    tasks: list[str] = Field(min_length=1)
    """Names of the tasks."""

    limit: int | None = Field(default=None, ge=1)
    """Take the first so many documents of each task. Null takes all."""

    def check(self) -> None:
        """Raises ConfigError for a task that does not exist. Called before the first stage; may import much."""

    @abstractmethod
    def scores(self, exported: Exported, progress: Progress) -> Scores:
        """Scores of all tasks. All processes of the launch call it; those of process 0 count."""
