"""What an ablation says of a change is right as often as its intervals claim, and is said of the same documents."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.comparison import ablation
from pipeline.comparison.ablation import (
    Arm,
    change_of,
    compare_arms,
    format_ablation,
    shared_documents,
    verdict_on,
)
from pipeline.corpus.document_shards import ShardWriter
from pipeline.corpus.documents import Document
from pipeline.errors import BadDataError, ConfigError
from pipeline.evaluation.scored_documents import write_documents

CHANGE = 0.03


GRID = np.geomspace(1, 400, 100)


@cache
def quantiles() -> list[float]:
    return [ablation._quantile_of_t(freedom) for freedom in GRID.tolist()]


def quick_quantile(freedom: float) -> float:
    """One computed for each experiment would take most of the time."""
    return float(np.interp(freedom, GRID, quantiles()))


def draw(rng: np.random.Generator, seeds: int, documents: int, spread: tuple[float, float, float]) -> bool:
    """Whether the interval of an experiment with a known change holds it; the spreads are those of seeds, of documents,
    and of both together, in bits per byte."""
    sizes = rng.integers(200, 2000, documents).astype(float)
    shapes = ((seeds, 1), (1, documents), (seeds, documents))
    noise = sum(one * rng.standard_normal(shape) for one, shape in zip(spread, shapes, strict=True))
    _, interval = change_of((CHANGE + noise) * sizes, sizes)
    assert interval is not None
    return interval[0] <= CHANGE <= interval[1]


@pytest.mark.parametrize(
    ("seeds", "spread"), [(3, (0.02, 0.3, 0.1)), (3, (0.0, 0.3, 0.05)), (5, (0.01, 0.1, 0.1)), (3, (0.02, 0.0, 0.1))]
)
def test_intervals_hold_the_change_in_95_of_100_experiments(
    seeds: int, spread: tuple[float, float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    quantiles()
    monkeypatch.setattr(ablation, "_quantile_of_t", quick_quantile)
    rng = np.random.default_rng(0)
    held = np.mean([draw(rng, seeds, 200, spread) for _ in range(1000)])
    assert 0.925 <= held <= 0.97


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (10, 2.2281), (100, 1.9840), (1e9, 1.9600)]
)
def test_quantiles_are_those_of_the_tables(freedom: float, quantile: float) -> None:
    assert ablation._quantile_of_t(freedom) == pytest.approx(quantile, rel=1e-4)


def test_verdicts_are_of_what_chance_leaves() -> None:
    assert verdict_on(0.1, None).startswith("no measurable benefit: one seed")
    assert verdict_on(-0.1, (-0.3, 0.1)).startswith("no measurable benefit: the change may be chance")
    assert verdict_on(-0.1, (-0.2, -0.05)) == "better: fewer bits per byte"
    assert verdict_on(0.1, (0.05, 0.2)) == "worse: more bits per byte"
    assert change_of(np.zeros((3, 5)), np.ones(5)) == (0.0, (0.0, 0.0))


def arm(
    folder: Path, name: str, documents: dict[str, str], bits: float | NDArray[np.float64], leaked: float = 0.0
) -> Arm:
    """A run whose model needs so many bits for each byte of its test documents, a part of which are leaked."""
    own = folder / name
    writer = ShardWriter(own / "test" / "shard-000000.parquet")
    for id, text in documents.items():
        writer.write(Document(id, text, "s", id))
    writer.close()
    (own / "leakage.json").write_text(json.dumps({"test": {"share": leaked}}))
    sizes = np.array([len(text) for text in documents.values()], dtype=float)
    zeros = np.zeros((len(sizes), 7))
    zeros[:, 0], zeros[:, 1], zeros[:, 3], zeros[:, 4] = sizes * bits * np.log(2), sizes, sizes, 1
    write_documents(own, [(id, "s") for id in documents], zeros)
    return Arm(name, own / "test", own)


def test_only_documents_count_that_all_runs_share(tmp_path: Path) -> None:
    common = {f"d{number:03}": "x" * (number + 1) for number in range(120)}
    base = arm(tmp_path, "base", {**common, "own": "y" * 5000, "mended": "z" * 4000}, 2.0)
    changed = arm(tmp_path, "changed", {"mended": "w" * 4000, **dict(reversed(common.items()))}, 1.5)
    found = compare_arms(["a.b=1"], {7: [base, changed], 8: [base, changed]})
    assert (found["documents"], found["left_out"]) == (120, 2)
    assert found["change"] == pytest.approx(-0.5)
    assert found["runs"][0]["base"] == {"run": "base", "bits_per_byte": pytest.approx(2.0)}
    assert found["verdict"] == "better: fewer bits per byte"
    text = format_ablation(found)
    assert "a.b=1: better: fewer bits per byte\non 120 test documents; 2 are not in all runs" in text
    assert compare_arms(["a.b=1"], {7: [base, changed]})["interval"] is None


def test_what_stands_in_training_is_told(tmp_path: Path) -> None:
    documents = {f"d{number:03}": "x" * (number + 1) for number in range(120)}
    base, changed = arm(tmp_path, "base", documents, 2.0, 0.004), arm(tmp_path, "changed", documents, 1.9, 0.086)
    found = compare_arms(["curate.near_duplicates=null"], {7: [base, changed]})
    assert found["leaked"] == {"base": 0.004, "changed": 0.086}
    assert "0.4% (base) and 8.6% (changed) of the test documents overlap with training" in format_ablation(found)
    assert "overlap" not in format_ablation(compare_arms(["a.b=1"], {7: [base, base]}))


def test_too_little_to_compare_is_refused(tmp_path: Path) -> None:
    base = arm(tmp_path, "base", {f"d{number}": "text" for number in range(110)}, 1.0)
    changed = arm(tmp_path, "changed", {f"d{number}": "text" for number in range(99)}, 1.0)
    with pytest.raises(ConfigError, match="99 test documents are the same in all runs, of 110 in the first"):
        shared_documents([base.tests, changed.tests])
    (tmp_path / "base" / "documents.parquet").unlink()
    with pytest.raises(BadDataError, match="evaluation of base has no losses"):
        compare_arms([], {1: [base, base]})
