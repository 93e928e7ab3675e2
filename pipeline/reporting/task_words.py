"""How a model's task is spoken of: its figures, what they are compared by, and its name on the Hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.evaluation.evaluate_config import PRIMARY_METRIC


@dataclass(frozen=True)
class Figure:
    """A figure of an evaluation: its key there, its name for people, how it is written (`real`, `percent`, `count`,
    `size`), and which is better, `lower` or `higher`; "" where neither is."""

    key: str
    name: str
    style: str = "real"
    better: str = "lower"


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
    hub_metrics: tuple[tuple[str, str, str], ...]
    """(key in the evaluation, type on the Hub, name there)"""

    auto_class: str
    limitation: str

    @property
    def is_generative(self) -> bool:
        """Whether the model writes text."""
        return self.auto_class == "AutoModelForCausalLM"

    @property
    def better(self) -> str:
        """Which main figure is better, `lower` or `higher`."""
        return self.main.better


def _fewer_bits(own: float, other: float) -> str:
    return f"the model needs {abs(1 - own / other):.1%} {'fewer' if own < other else 'more'} bits" if other else ""


def _more_right(own: float, other: float) -> str:
    points = 100 * (own - other)
    return f"the model gets {abs(points):.1f} {'more' if points >= 0 else 'fewer'} of 100 documents right"


def _smaller_error(own: float, other: float) -> str:
    return f"the model's is {abs(1 - own / other):.1%} {'smaller' if own < other else 'larger'}" if other else ""


_DOCUMENTS = Figure("documents", "documents", "count", "")

WORDS = {
    "causal_lm": TaskWords(
        noun="language model",
        target="target token",
        window="window",
        loss="loss (nats per token)",
        figures=(
            Figure("bits_per_byte", "bits per byte"),
            Figure("loss", "loss (nats/token)"),
            Figure("perplexity", "perplexity"),
            Figure("token_accuracy", "token accuracy", "percent", "higher"),
            Figure("tokens", "tokens", "count", ""),
            Figure("bytes", "text", "size", ""),
            _DOCUMENTS,
        ),
        main=Figure("bits_per_byte", "bits per byte"),
        verdict=_fewer_bits,
        hub_tag="causal-lm",
        hub_task=("text-generation", "Language modeling"),
        hub_metrics=(
            ("bits_per_byte", "bits_per_byte", "Bits per byte"),
            ("perplexity", "perplexity", "Perplexity per token"),
            ("token_accuracy", "accuracy", "Next-token accuracy"),
        ),
        auto_class="AutoModelForCausalLM",
        limitation="It continues text. It was not tuned to follow instructions or to be safe, and what it says is "
        "often false or without sense.",
    ),
    "classification": TaskWords(
        noun="classifier",
        target="labelled document",
        window="document",
        loss="loss (nats per document)",
        figures=(
            Figure("accuracy", "accuracy", "percent", "higher"),
            Figure("f1_macro", "macro F1", better="higher"),
            Figure("loss", "loss (nats/document)"),
            _DOCUMENTS,
        ),
        main=Figure("accuracy", "accuracy", "percent", "higher"),
        verdict=_more_right,
        hub_tag="text-classification",
        hub_task=("text-classification", "Text classification"),
        hub_metrics=(("accuracy", "accuracy", "Accuracy"), ("f1_macro", "f1", "Macro F1")),
        auto_class="AutoModelForSequenceClassification",
        limitation="It gives every text one of its classes, also one that belongs to none of them.",
    ),
    "regression": TaskWords(
        noun="regression model",
        target="labelled document",
        window="document",
        loss="loss (error of a document)",
        figures=(
            Figure("mse", "mean squared error"),
            Figure("mae", "mean absolute error"),
            Figure("r2", "R²", better="higher"),
            Figure("pearson", "Pearson's r", better="higher"),
            _DOCUMENTS,
        ),
        main=Figure("mse", "mean squared error"),
        verdict=_smaller_error,
        hub_tag="text-regression",
        hub_task=("text-classification", "Text regression"),
        hub_metrics=(
            ("mse", "mse", "Mean squared error"),
            ("mae", "mae", "Mean absolute error"),
            ("r2", "r_squared", "R2"),
            ("pearson", "pearsonr", "Pearson's r"),
        ),
        auto_class="AutoModelForSequenceClassification",
        limitation="It gives every text a number, also one to which none applies.",
    ),
}
_BITS = "bits_per_byte"
_TEXT = WORDS["causal_lm"]
OF_LOST_TEXT = replace(
    _TEXT,
    figures=tuple(figure for figure in _TEXT.figures if figure.key != _BITS),
    main=next(figure for figure in _TEXT.figures if figure.key == "perplexity"),
    hub_metrics=tuple(metric for metric in _TEXT.hub_metrics if metric[0] != _BITS),
)
"""Of a language model whose tokenizer loses text: bits are not those of the text's bytes."""

assert all(words.main.key == PRIMARY_METRIC[task] for task, words in WORDS.items())
