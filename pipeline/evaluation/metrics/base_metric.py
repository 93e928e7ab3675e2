"""What every metric has."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pipeline.features import Feature

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.evaluation.intervals import Interval

FEWEST_DOCUMENTS = 10
"""Fewer tell too little of how documents differ: a bootstrap gives no interval."""


@dataclass(frozen=True)
class Figure:
    """A figure of an evaluation: its key there, its name for people, how it is written (`real`, `percent`, `count`,
    `size`), and which is better, `lower` or `higher`; "" where neither is."""

    key: str
    name: str
    style: str = "real"
    better: str = "lower"


@dataclass(frozen=True)
class Totals:
    """Sums over a part of the held-out text. `nll` is in nats and covers all `tokens`, end-of-document ones included;
    `bytes` are UTF-8 bytes of the documents. `charged_bits` pay for what decoding loses of them. `correct` of the
    tokens were the likeliest, `in_top_5` among the five likeliest."""

    nll: float
    tokens: int
    correct: int
    bytes: int
    documents: int
    charged_bits: int = 0
    in_top_5: int = 0

    @classmethod
    def from_row(cls, row: NDArray[np.float64]) -> Self:
        """From the sums in the order of the fields, (fields,)."""
        nll, *counts = row.tolist()
        return cls(nll, *map(round, counts))


class Metric(Feature):
    """A figure of a trained model on held-out documents."""

    measures: ClassVar[tuple[str, ...]] = ()
    """The kinds of predictions that it measures: `tokens`, `classes`, `numbers`."""

    label: ClassVar[str] = ""
    """Its name for people; "" is its key."""

    style: ClassVar[str] = "real"
    """How it is written: `real` or `percent`."""

    better: ClassVar[str] = "lower"
    """Which is better, `lower` or `higher`."""

    is_headline: ClassVar[bool] = False
    """Whether the diagram of a report shows it beside the main figure. Asked of METRICS alone."""

    has_interval: ClassVar[bool] = False
    """Whether its confidence interval is found by computing it of 1,000 draws of the documents."""

    depends_on_tokenizer: ClassVar[bool] = False
    """Whether two tokenizers give figures that cannot be compared. Asked of METRICS alone."""

    hub: ClassVar[tuple[str, str] | None] = None
    """Its type and name in the model-index of a card on the Hub; None leaves it out there."""

    @property
    def key(self) -> str:
        """Its name in an evaluation."""
        return self.type.rpartition(":")[2]

    @property
    def figure(self) -> Figure:
        """How report and card show it."""
        return Figure(self.key, self.label or self.key.replace("_", " "), self.style, self.better)


class TextMetric(Metric):
    """A figure of a language model, from sums over the tokens of a text."""

    measures: ClassVar[tuple[str, ...]] = ("tokens",)

    @abstractmethod
    def compute(self, totals: Totals) -> float | None:
        """The figure of the text of which these are the sums; None where it is not defined."""


class LabelMetric(Metric):
    """A figure of predicted labels."""

    measures: ClassVar[tuple[str, ...]] = ("classes", "numbers")

    @abstractmethod
    def compute(self, predictions: NDArray[Any], references: NDArray[Any]) -> float | None:
        """The figure of predictions (n,) against true labels (n,); None where it is not defined. A class is its number,
        int64; a number is float64."""

    def interval(self, predictions: NDArray[Any], references: NDArray[Any]) -> Interval | None:
        """The confidence interval of the figure over documents; None where there is none."""
        from pipeline.evaluation.intervals import bootstrap

        if not self.has_interval:
            return None
        return bootstrap(lambda chosen: self.compute(predictions[chosen], references[chosen]), len(references))


class NumberMetric(LabelMetric):
    """A figure of predicted numbers."""

    measures: ClassVar[tuple[str, ...]] = ("numbers",)


class MeanError(NumberMetric):
    """The mean of a power of the absolute error."""

    has_interval: ClassVar = True
    power: ClassVar[int]

    def compute(self, predictions: NDArray[Any], references: NDArray[Any]) -> float:
        return float((abs(predictions - references) ** self.power).mean())
