"""The `evaluate:` section: what is measured on held-out documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.section import Runtime, Section

Metric = Literal["perplexity", "bits_per_byte", "token_accuracy", "accuracy", "f1_macro", "mse", "mae", "r2", "pearson"]

METRICS_OF_TASK: dict[str, tuple[Metric, ...]] = {
    "causal_lm": ("perplexity", "bits_per_byte", "token_accuracy"),
    "classification": ("accuracy", "f1_macro"),
    "regression": ("mse", "mae", "r2", "pearson"),
}
"""What can be measured of a model, by its task."""

PRIMARY_METRIC: dict[str, Metric] = {"causal_lm": "bits_per_byte", "classification": "accuracy", "regression": "mse"}
"""What a model is compared with baselines by. Always measured, but no bits per byte of text that a tokenizer loses."""


def main_metric(evaluation: Mapping[str, Any]) -> Metric:
    """The figure by which a model is judged, from its evaluation."""
    metric = PRIMARY_METRIC[evaluation["task"]]
    return "perplexity" if metric in evaluation.get("withheld", ()) else metric


class SamplesConfig(Section):
    """Texts that the model writes."""

    prompts: list[str] = Field(default_factory=list)
    """Openings to continue. Empty takes those of `num_samples` test documents."""

    num_samples: int = Field(default=4, ge=0)
    """How many test documents lend their first words when `prompts` is empty."""

    max_new_tokens: int = Field(default=64, ge=1)
    """Tokens after which a sample ends, if the model does not end it."""

    temperature: float = Field(default=0.8, ge=0)
    """Divides the logits before sampling. 0 always takes the likeliest token."""

    top_k: int | None = Field(default=50, ge=1)
    """Sample from this many likeliest tokens only. Null samples from all."""


class EvaluateConfig(Section):
    """Metrics, baselines and samples on held-out documents."""

    metrics: list[Metric] | None = Field(default=None, min_length=1)
    """What is measured on the test split, for all of it and for each source: of a language model perplexity,
    bits_per_byte and token_accuracy; of a classification accuracy and f1_macro; of a regression mse, mae, r2 and
    pearson. Null takes all of the task. There are no bits per byte where the tokenizer loses text of that split."""

    stride: int | None = Field(default=None, ge=1)
    """Tokens between the beginnings of two windows, at most `pack.block_size`. A smaller one gives every token at
    least block_size - stride tokens of context and costs block_size / stride times as much. Null is the block size."""

    per_device_eval_batch_size: Annotated[int, Runtime()] = Field(default=8, ge=1)
    """Sequences that a device computes at once."""

    baselines: bool = True
    """Compare a language model with a token unigram and with `xz -9`, in bits per byte; a classification with the most
    frequent class of the training split, and a regression with the mean there."""

    samples: SamplesConfig = Field(default_factory=SamplesConfig)
    """Texts that the model writes."""
