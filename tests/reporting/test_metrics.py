from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.reporting.recorded_curves import MAX_BUCKETS, MAX_GRID_COLUMNS, Curve, LayerGrid, read_curves


def test_a_short_curve_keeps_every_point() -> None:
    curve = Curve()
    for step in range(1, 101):
        curve.add(step, math.sin(step))
    assert curve.points() == [(step, math.sin(step)) for step in range(1, 101)]


def test_a_long_curve_is_bounded_and_keeps_its_spikes_and_ends() -> None:
    curve = Curve()
    for step in range(1, 50_001):
        curve.add(step, 99.0 if step == 31_337 else -7.0 if step == 40_404 else math.sin(step))
    points = curve.points()
    assert len(points) <= 4 * MAX_BUCKETS
    assert {(31_337, 99.0), (40_404, -7.0), (1, math.sin(1)), (50_000, math.sin(50_000))} <= set(points)
    assert points == sorted(points)


def test_smoothing_averages_noise_away_and_keeps_the_level() -> None:
    curve = Curve()
    for step in range(1000):
        curve.add(step, 5.0 + (1 if step % 2 else -1))
    assert all(value == pytest.approx(5.0) for _, value in curve.smoothed())


def test_values_that_are_not_finite_are_left_out() -> None:
    curve = Curve()
    for step, value in enumerate((1.0, math.nan, math.inf, 2.0)):
        curve.add(step, value)
    assert curve.points() == [(0, 1.0), (3, 2.0)]


def test_a_layer_grid_averages_logarithms_and_is_bounded() -> None:
    grid = LayerGrid()
    adders = {name: grid.adder(name) for name in ("a", "b")}
    for step in range(1000):
        adders["a"](step, 0.1 if step % 2 else 10.0)
        adders["b"](step, 0.0)
    assert len(grid.columns()) <= MAX_GRID_COLUMNS
    assert grid.columns()[-1][1] == 999
    assert all(value == pytest.approx(0.0, abs=1e-12) for value in grid.row("a"))
    assert set(grid.row("b")) == {None}


def test_columns_are_contiguous_when_steps_are_apart() -> None:
    grid = LayerGrid()
    add = grid.adder("a")
    for step in (10, 20, 30):
        add(step, 1.0)
    assert grid.columns() == [(0, 10), (10, 20), (20, 30)]


@pytest.mark.parametrize(("steps", "every"), [(1, 1), (7, 1), (650, 10), (655, 5), (100_003, 1)])
def test_columns_end_with_the_last_step(steps: int, every: int) -> None:
    grid = LayerGrid()
    add = grid.adder("a")
    for step in range(every, steps + 1, every):
        add(step, 1.0)
    columns = grid.columns()
    assert (columns[0][0], columns[-1][1]) == (0, steps // every * every)
    assert all(before[1] == after[0] for before, after in pairwise(columns))
    assert all(start < end for start, end in columns)


def test_reading_passes_over_broken_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    good = json.dumps(
        {"step": 1, "train/loss": 2.5, "matrices/layers.0.mlp/grad_norm": 0.1, "matrices/layers.0.mlp/weight_norm": 3.0}
    )
    nested = "[" * 100_000
    path.write_text(f'{good}\n[1]\n{nested}\n{{"loss": 1}}\n{{"step": 2, "train/loss": null}}\n{{"step": 3, "train/lo')
    metrics = read_curves(path)
    assert metrics.num_lines == 2
    assert metrics.curve("train/loss").points() == [(1, 2.5)]
    assert list(metrics.gradients.layers) == ["layers.0"]
    assert not metrics.updates.layers


def test_a_missing_file_gives_nothing(tmp_path: Path) -> None:
    metrics = read_curves(tmp_path / "metrics.jsonl")
    assert metrics.num_lines == 0
    assert metrics.curve("train/loss").points() == []
