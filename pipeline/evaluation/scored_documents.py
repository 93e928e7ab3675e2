"""What a model scored on each held-out document, kept so that two models can be compared document by document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.evaluation.intervals import Interval, percentiles, resampled_sums
from pipeline.evaluation.metrics import FEWEST_DOCUMENTS, METRIC_OF_KEY, LabelMetric, TextMetric, Totals
from pipeline.evaluation.scores import compare_labels, mean_loss

DOCUMENTS = "documents.parquet"
PREDICTIONS = "predictions.parquet"
"""Beside `evaluation.json`: of language models, and of tasks with labels."""

_TOTALS = list(Totals.__dataclass_fields__)


def write_documents(folder: Path, named: Sequence[tuple[str, str]], rows: NDArray[np.float64]) -> None:
    """Write `documents.parquet`: the id, the source and the `Totals` of each document, (documents, fields)."""
    ids, sources = (list(column) for column in zip(*named, strict=True))
    columns = {"id": ids, "source": sources, **dict(zip(_TOTALS, rows.T, strict=True))}
    pq.write_table(pa.table(columns), folder / DOCUMENTS, compression="zstd")


@dataclass(frozen=True)
class ScoredDocuments:
    """Columns by name, each of one value a document, in the order of ids."""

    columns: dict[str, NDArray[Any]]

    @classmethod
    def read(cls, folder: Path) -> ScoredDocuments | None:
        """Those of an evaluation; None where it left none that can be read."""
        path = next((folder / name for name in (DOCUMENTS, PREDICTIONS) if (folder / name).is_file()), None)
        try:
            table = pq.read_table(path) if path is not None else None
        except (OSError, pa.ArrowException):
            return None
        if table is None or not {"id", "source"} <= {*table.column_names}:
            return None
        table = table.sort_by("id")
        return cls({name: table.column(name).to_numpy() for name in table.column_names})

    def of(self, source: str) -> ScoredDocuments:
        """Those of one source."""
        chosen = self.columns["source"] == source
        return ScoredDocuments({name: values[chosen] for name, values in self.columns.items()})

    @property
    def totals(self) -> NDArray[np.float64] | None:
        """The fields of `Totals`, (documents, fields); None of documents with labels."""
        if not {*_TOTALS} <= self.columns.keys():
            return None
        return np.column_stack([self.columns[name] for name in _TOTALS]).astype(np.float64)


def paired_difference(one: ScoredDocuments, other: ScoredDocuments, key: str) -> Interval | None:
    """The 95 % interval of a figure of `other` less that of `one`, with the same documents in each draw; None where
    they are not of the same documents, or too few, or where the figure is not one of METRICS."""
    ids = one.columns["id"]
    kind = METRIC_OF_KEY.get(key)
    metric = kind.model_validate({}) if kind is not None else None
    if len(ids) < FEWEST_DOCUMENTS or not np.array_equal(ids, other.columns["id"]):
        return None
    rows, others = one.totals, other.totals
    if rows is not None and others is not None and (isinstance(metric, TextMetric) or key == "loss"):
        compute = metric.compute if isinstance(metric, TextMetric) else mean_loss
        drawn = resampled_sums(np.column_stack([rows, others]))
        halves = drawn[:, : len(_TOTALS)], drawn[:, len(_TOTALS) :]
        figures = [[compute(Totals.from_row(row)) for row in half] for half in halves]
        return percentiles([None if a is None or b is None else b - a for a, b in zip(*figures, strict=True)])
    if isinstance(metric, LabelMetric) and all("prediction" in found.columns for found in (one, other)):
        found = _numbered(one.columns["label"], one.columns["prediction"], other.columns["prediction"])
        if np.array_equal(one.columns["label"], other.columns["label"]):
            return compare_labels(found[2], found[1], found[0], metric)
    return None


def _numbered(*columns: NDArray[Any]) -> list[NDArray[Any]]:
    """Columns of numbers as they are; those of names with a number for each name."""
    if columns[0].dtype.kind == "f":
        return list(columns)
    _, numbers = np.unique(np.concatenate(columns), return_inverse=True)
    return np.split(numbers, len(columns))
