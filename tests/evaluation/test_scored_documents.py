"""Two models are compared document by document: what both find hard is no noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.evaluation.predictions import write_predictions
from pipeline.evaluation.scored_documents import ScoredDocuments, paired_difference, write_documents

NAMED = [(f"{n:03d}", "books" if n % 3 else "news") for n in range(40)]


def rows(nll: NDArray[np.float64]) -> NDArray[np.float64]:
    tokens = np.arange(40) % 7 + 20.0
    ones = np.ones(40)
    return np.column_stack([nll, tokens, tokens // 3, 4 * tokens, ones, 0 * ones, tokens // 2])


def scored(folder: Path, *columns: Any, order: Any = slice(None)) -> ScoredDocuments:
    folder.mkdir()
    write_documents(folder, [NAMED[n] for n in np.arange(40)[order]], rows(*columns)[order])
    found = ScoredDocuments.read(folder)
    assert found is not None
    return found


def test_a_paired_interval_is_that_of_drawing_documents_for_both(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    hard = draw.uniform(30, 90, 40)
    gain = draw.uniform(0, 2, 40)
    one, other = scored(tmp_path / "a", hard), scored(tmp_path / "b", hard - gain, order=draw.permutation(40))
    interval = paired_difference(one, other, "bits_per_byte")
    assert interval is not None

    generator = np.random.default_rng(0)
    sizes = rows(hard)[:, 3]
    differences = []
    for _ in range(1000):
        drawn = generator.integers(0, 40, 40)
        differences.append(-sum(gain[n] for n in drawn) / np.log(2) / sum(sizes[n] for n in drawn))
    assert interval == pytest.approx(np.quantile(differences, [0.025, 0.975]), rel=1e-9)
    assert interval[1] < 0, "clear, although single figures move by much more"
    # Beside that the models would differ by 0.1 bits a byte either way if their documents were drawn apart.
    loss = paired_difference(one, other, "loss")
    assert loss is not None
    assert loss[1] < 0

    news = paired_difference(one.of("news"), other.of("news"), "bits_per_byte")
    assert news is not None
    assert news != interval


def test_documents_that_differ_are_not_paired(tmp_path: Path) -> None:
    one = scored(tmp_path / "a", np.arange(40.0))
    fewer = scored(tmp_path / "b", np.arange(40.0), order=slice(0, 39))
    assert paired_difference(one, fewer, "bits_per_byte") is None
    assert paired_difference(one, one, "metric_of_my_own") is None
    few = scored(tmp_path / "c", np.arange(40.0), order=slice(0, 9))
    assert paired_difference(few, few, "bits_per_byte") is None
    assert ScoredDocuments.read(tmp_path) is None
    (tmp_path / "documents.parquet").write_bytes(b"PAR1 no more")
    assert ScoredDocuments.read(tmp_path) is None


@pytest.mark.parametrize("has_names", [True, False])
def test_labels_are_paired_as_well(tmp_path: Path, has_names: bool) -> None:
    draw = np.random.default_rng(2)
    label = draw.integers(0, 3, 40)
    first, second = (np.where(draw.random(40) < share, label, (label + 1) % 3) for share in (0.5, 0.9))
    for name, prediction in (("a", first), ("b", second)):
        (tmp_path / name).mkdir()
        told = [["no", "maybe", "yes"][n] for n in label], [["no", "maybe", "yes"][n] for n in prediction]
        label_of, predicted = told if has_names else (label.astype(float), prediction.astype(float))
        columns = {"id": [one for one, _ in NAMED], "source": ["s"] * 40, "label": label_of, "prediction": predicted}
        write_predictions(tmp_path / name, columns)
    one, other = (ScoredDocuments.read(tmp_path / name) for name in "ab")
    assert one is not None
    assert other is not None
    interval = paired_difference(one, other, "accuracy" if has_names else "mse")
    assert interval is not None
    values = (second == label) * 1.0 - (first == label) if has_names else (second - label) ** 2.0 - (first - label) ** 2
    generator = np.random.default_rng(0)
    differences = [values[generator.integers(0, 40, 40)].mean() for _ in range(1000)]
    assert interval == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=1e-9)
