"""What a model tells of documents with labels, and how right it is."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.errors import DivergedError
from pipeline.evaluation.intervals import wilson
from pipeline.evaluation.metrics import LabelMetric
from pipeline.evaluation.metrics.accuracy import Accuracy
from pipeline.evaluation.metrics.mse import MeanSquaredError
from pipeline.evaluation.predictions import predict, score_rows, write_predictions
from pipeline.tasks.base_labelled import Labelled
from pipeline.tasks.classification import Classification
from pipeline.tasks.regression import Regression
from pipeline.tokens.labelled_split import LabelledSplit

NAMES = {0: "no", 1: "yes"}


def split_of(targets: list[float] | list[int]) -> LabelledSplit:
    count = len(targets)
    return LabelledSplit(
        stream=np.full(2 * count, 5, dtype=np.uint16),
        starts=2 * np.arange(count),
        lengths=np.full(count, 2),
        targets=np.array(targets),
        documents=np.arange(count),
        block_size=8,
        vocab_size=50,
        pad_token_id=0,
        suffix_token_ids=(1,),
        label_dtype=np.int64,
    )


def scores(
    task: Labelled,
    logits: np.ndarray,
    train: LabelledSplit,
    test: LabelledSplit,
    sources: list[str],
    metrics: list[LabelMetric],
) -> dict:
    baseline = task.baseline(train, NAMES)
    told, lost = task.predictions(logits), task.losses(logits, test.targets)
    return score_rows(told, lost, test.targets, sources, metrics, baseline)


def test_classes_are_compared_with_the_most_frequent_one() -> None:
    logits = np.log(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]))
    train, test = split_of([1, 1, 0]), split_of([0, 1, 1])
    found = scores(Classification(), logits, train, test, ["a", "b", "b"], [Accuracy()])
    assert found["test"] == {
        "loss": pytest.approx(-np.log([0.9, 0.8, 0.4]).mean()),
        "accuracy": pytest.approx(2 / 3),
        "documents": 3,
        "intervals": {"accuracy": wilson(2, 3)},
    }
    assert found["sources"]["b"] == {
        "loss": pytest.approx(-np.log([0.8, 0.4]).mean()),
        "accuracy": 0.5,
        "documents": 2,
        "intervals": {"accuracy": wilson(1, 2)},
    }
    assert found["baselines"] == {
        "majority_class": {
            "accuracy": pytest.approx(2 / 3),
            "difference": None,
            "what": "always 'yes', the label of 66.7% of the training documents",
        }
    }


def test_numbers_are_compared_with_the_mean_of_training(tmp_path) -> None:
    train, test = split_of([1.0, 2.0]), split_of([0.5, 2.5])
    found = scores(Regression(), np.array([[0.0], [2.0]]), train, test, ["a", "a"], [MeanSquaredError()])
    assert (found["test"]["mse"], found["test"]["loss"]) == (0.25, 0.25)
    what = "always 1.5, the mean of the training labels"
    assert found["baselines"]["mean"] == {"mse": 1.0, "difference": None, "what": what}
    write_predictions(tmp_path, {"id": ["x", "y"], **Regression().columns(np.array([[0.0], [2.0]]), test.targets, {})})
    assert pq.read_table(tmp_path / "predictions.parquet").to_pylist()[1] == {
        "id": "y",
        "label": 2.5,
        "prediction": 2.0,
    }


def test_predictions_of_classes_have_names_and_probabilities(tmp_path) -> None:
    columns = Classification().columns(np.log(np.array([[0.25, 0.75]])), np.array([0]), NAMES)
    write_predictions(tmp_path, {"id": ["x"], **columns})
    rows = pq.read_table(tmp_path / "predictions.parquet").to_pylist()
    assert rows == [{"id": "x", "label": "no", "prediction": "yes", "probability": pytest.approx(0.75)}]


def test_a_model_that_diverged_is_named() -> None:
    class Diverged(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, **others: object) -> object:
            return type("Output", (), {"logits": torch.full((len(input_ids), 2), torch.nan)})

    with pytest.raises(DivergedError, match="not finite: training diverged"):
        predict(Diverged(), split_of([0, 1]), 2, torch.device("cpu"))  # type: ignore[arg-type]
