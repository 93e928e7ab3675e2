"""What every metric has."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pipeline.features import Feature

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
    `bytes` are UTF-8 bytes of the documents. `charged_bits` pay for what decoding loses of them."""

    nll: float
    tokens: int
    correct: int
    bytes: int
    documents: int
    charged_bits: int = 0

    @classmethod
    def of(cls, parts: Sequence[Self]) -> Self:
        """All parts together."""
        import numpy as np

        names = [name for name in cls.__dataclass_fields__ if name != "nll"]
        counts = {name: sum(getattr(part, name) for part in parts) for name in names}
        return cls(nll=float(np.sum([part.nll for part in parts])), **counts)


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
    def compute(self, totals: Totals) -> float:
        """The figure of the text of which these are the sums."""


class LabelMetric(Metric):
    """A figure of predicted labels."""

    measures: ClassVar[tuple[str, ...]] = ("classes", "numbers")

    @abstractmethod
    def compute(self, predictions: NDArray[Any], references: NDArray[Any]) -> float | None:
        """The figure of predictions (n,) against true labels (n,); None where it is not defined. A class is its number,
        int64; a number is float64."""


class NumberMetric(LabelMetric):
    """A figure of predicted numbers."""

    measures: ClassVar[tuple[str, ...]] = ("numbers",)


class MeanError(NumberMetric):
    """The mean of a power of the absolute error."""

    power: ClassVar[int]

    def compute(self, predictions: NDArray[Any], references: NDArray[Any]) -> float:
        return float((abs(predictions - references) ** self.power).mean())
