"""Predicted labels of documents, their scores, and those of a baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from pipeline.distributed.collectives import ALONE, Collectives
from pipeline.errors import DivergedError
from pipeline.evaluation.losses import Rows, model_logits, on_device
from pipeline.evaluation.metrics import LabelMetric
from pipeline.evaluation.scored_documents import PREDICTIONS
from pipeline.evaluation.scores import compare_labels, score_labels, score_predictions
from pipeline.modeling.inputs import evaluating


def predict(
    model: PreTrainedModel,
    split: Rows,
    batch_size: int,
    device: torch.device,
    on_sequences: Callable[[int], None] = lambda sequences: None,
    processes: Collectives = ALONE,
) -> NDArray[np.float64]:
    """The logits of every sequence of a split, (sequences, classes), or (sequences, 1) numbers. Processes share out the
    batches; each gets all logits.

    Raises DivergedError when one is not finite.
    """

    def logits_from(start: int) -> NDArray[np.float64]:
        batch = on_device(split.batch(range(start, min(start + batch_size, len(split)))), device)
        logits: NDArray[np.float64] = model_logits(model, batch).double().cpu().numpy()
        return logits

    parts = []
    with evaluating(model):
        for part in processes.in_turns(range(0, len(split), batch_size), logits_from):
            parts.append(part)
            on_sequences(len(part))
    logits: NDArray[np.float64] = np.concatenate(parts)
    if not np.isfinite(logits).all():
        raise DivergedError(
            "evaluate: what the model tells of the test split is not finite: training diverged; lower "
            "train.learning_rate"
        )
    return logits


def score_rows(
    predictions: NDArray[Any],
    losses: NDArray[np.float64],
    targets: NDArray[Any],
    sources: Sequence[str],
    metrics: Sequence[LabelMetric],
    baseline: tuple[str, float, str] | None,
) -> dict[str, Any]:
    """`{"test", "sources", "baselines"}`: scores of all rows, of those of each source, and of a `baseline`.

    All are (rows,). A baseline is its name, its one prediction, and a description; beside its scores stands
    `difference`, the interval of the model's first metric less its own. `loss` is the mean of `losses`.
    """
    of = np.array(sources)

    def scores(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        return score_labels(predictions[chosen], losses[chosen], targets[chosen], metrics)

    baselines = {}
    if baseline is not None:
        name, value, what = baseline
        always = np.full(len(targets), value, dtype=targets.dtype)
        difference = compare_labels(predictions, always, targets, metrics[0])
        found = score_predictions(always, targets, metrics)
        baselines[name] = {**found, "difference": difference, "what": what}
    return {
        "test": scores(np.ones(len(targets), dtype=bool)),
        "sources": {source: scores(of == source) for source in dict.fromkeys(sources)},
        "baselines": baselines,
    }


def write_predictions(folder: Path, columns: Mapping[str, Any]) -> None:
    """Write `predictions.parquet`, a row for each test document."""
    pq.write_table(pa.table(dict(columns)), folder / PREDICTIONS, compression="zstd")
