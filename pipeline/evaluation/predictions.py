"""What a model tells of documents with labels, how right it is, and what is told without reading them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from pipeline.errors import DivergedError
from pipeline.evaluation.losses import model_logits
from pipeline.evaluation.scores import score_predictions
from pipeline.modeling.inputs import evaluating
from pipeline.tokens.labelled_split import LabelledSplit

PREDICTIONS = "predictions.parquet"


def tell(
    model: PreTrainedModel,
    split: LabelledSplit,
    batch_size: int,
    device: torch.device,
    on_sequences: Callable[[int], None] = lambda sequences: None,
) -> NDArray[np.float64]:
    """The logits of every sequence of a split, (sequences, classes), or (sequences, 1) numbers.

    Raises DivergedError when one is not finite.
    """
    parts = []
    with evaluating(model):
        for start in range(0, len(split), batch_size):
            batch = split.batch(range(start, min(start + batch_size, len(split))))
            parts.append(model_logits(model, batch, device).double().cpu().numpy())
            on_sequences(len(parts[-1]))
    logits: NDArray[np.float64] = np.concatenate(parts)
    if not np.isfinite(logits).all():
        raise DivergedError(
            "evaluate: what the model tells of the test split is not finite: training diverged; lower "
            "train.learning_rate"
        )
    return logits


def score_labels(
    logits: NDArray[np.float64],
    train: LabelledSplit,
    test: LabelledSplit,
    sources: Sequence[str],
    metrics: Sequence[str],
    classes: Sequence[str] | None,
    *,
    with_baseline: bool,
) -> dict[str, Any]:
    """`{"test", "sources", "baselines"}`: scores of all test sequences, of those of each source (`sources` has one for
    each sequence), and what the labels of the training split alone give. `loss` is the mean cross-entropy in nats or
    the mean squared error."""
    predictions = predictions_of(logits, classes)
    losses = _losses(logits, test.targets, classes)
    of = np.array(sources)

    def scores(chosen: NDArray[np.bool_], told: NDArray[Any]) -> dict[str, Any]:
        return dict(score_predictions(told[chosen], test.targets[chosen], metrics))

    def own_scores(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        return {"loss": float(losses[chosen].mean()), **scores(chosen, predictions), "documents": int(chosen.sum())}

    everything = np.ones(len(test), dtype=bool)
    baselines = {}
    if with_baseline:
        name, value, what = _baseline(train, classes)
        baselines[name] = {**scores(everything, np.full(len(test), value, dtype=test.targets.dtype)), "what": what}
    return {
        "test": own_scores(everything),
        "sources": {source: own_scores(of == source) for source in dict.fromkeys(sources)},
        "baselines": baselines,
    }


def write_predictions(
    folder: Path,
    ids: Sequence[str],
    logits: NDArray[np.float64],
    test: LabelledSplit,
    classes: Sequence[str] | None,
) -> None:
    """Write `predictions.parquet`: of each test sequence its document's id, the label and the prediction; of classes
    also the probability that the model gives its prediction."""
    predictions = predictions_of(logits, classes)
    columns: dict[str, Any] = {"id": list(ids), "label": test.targets, "prediction": predictions}
    if classes is not None:
        names = np.array(classes)
        columns["label"], columns["prediction"] = names[test.targets].tolist(), names[predictions].tolist()
        columns["probability"] = np.exp(logits.max(-1) - _log_normalizer(logits))
    pq.write_table(pa.table(columns), folder / PREDICTIONS, compression="zstd")


def predictions_of(logits: NDArray[np.float64], classes: Sequence[str] | None) -> NDArray[Any]:
    """The likeliest class of each row as its number, or the number told."""
    found: NDArray[Any] = logits[:, 0] if classes is None else logits.argmax(-1)
    return found


def _losses(logits: NDArray[np.float64], targets: NDArray[Any], classes: Sequence[str] | None) -> NDArray[np.float64]:
    if classes is None:
        squared: NDArray[np.float64] = (logits[:, 0] - targets) ** 2
        return squared
    return _log_normalizer(logits) - logits[np.arange(len(logits)), targets]


def _log_normalizer(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.logaddexp.reduce(logits, axis=-1)
    return total


def _baseline(train: LabelledSplit, classes: Sequence[str] | None) -> tuple[str, float, str]:
    """Name, prediction and description of what is best without reading a document."""
    if classes is None:
        mean = float(train.targets.mean())
        return "mean", mean, f"always {mean:.6g}, the mean of the training labels"
    counts = np.bincount(train.targets.astype(np.int64))
    largest = int(counts.argmax())
    share = counts[largest] / len(train)
    return "majority_class", largest, f"always {classes[largest]!r}, the label of {share:.1%} of the training documents"
