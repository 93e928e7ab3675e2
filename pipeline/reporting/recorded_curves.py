"""A training's metrics.jsonl read in one pass, in memory that does not grow with its length.

Curves keep the first, smallest, largest and last point of each bucket of steps (M4: Jugel et al., "M4: A
Visualization-Oriented Time Series Data Aggregation", 2014), so that no spike is lost. Buckets start one step wide
and double whenever there are too many of them, which needs no knowledge of the run's length.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.telemetry.matrix_figures import with_layers
from pipeline.training.recording.metrics_file import read_records

MAX_BUCKETS = 240
MAX_GRID_CELLS = 7_000
MAX_GRID_COLUMNS = 96

Point = tuple[float, float]
Bucket = tuple[Point, Point, Point, Point, int, float]
"""First, smallest, largest and last point, count, sum."""

Add = Callable[[int, float], None]


@dataclass
class Curve:
    """One series of values over steps, in at most 4 x MAX_BUCKETS points."""

    _width_log2: int = 0
    _buckets: dict[int, Bucket] = field(default_factory=dict)

    def add(self, step: int, value: float) -> None:
        """Take one point; values that are not finite are left out."""
        if not math.isfinite(value):
            return
        point = (step, value)
        key = step >> self._width_log2
        new = (point, point, point, point, 1, value)
        old = self._buckets.get(key)
        self._buckets[key] = new if old is None else _merged(old, new)
        if old is None and len(self._buckets) > MAX_BUCKETS:
            self._halve()

    def _halve(self) -> None:
        self._width_log2 += 1
        halved: dict[int, Bucket] = {}
        for key in sorted(self._buckets):
            old = halved.get(key >> 1)
            halved[key >> 1] = self._buckets[key] if old is None else _merged(old, self._buckets[key])
        self._buckets = halved

    def points(self) -> list[Point]:
        """The kept points, by step."""
        return sorted({step: (step, value) for bucket in self._buckets.values() for step, value in bucket[:4]}.values())

    def smoothed(self) -> list[Point]:
        """Means of buckets, averaged over a window of a twenty-fifth of the run (narrower towards the ends)."""
        keys = sorted(self._buckets)
        means = [self._buckets[key][5] / self._buckets[key][4] for key in keys]
        steps = [(self._buckets[key][0][0] + self._buckets[key][3][0]) / 2 for key in keys]
        reach = len(keys) // 50
        result = []
        for i, step in enumerate(steps):
            near = min(reach, i, len(keys) - 1 - i)
            window = means[i - near : i + near + 1]
            result.append((step, sum(window) / len(window)))
        return result

    def __len__(self) -> int:
        return sum(bucket[4] for bucket in self._buckets.values())


def _merged(left: Bucket, right: Bucket) -> Bucket:
    return (
        left[0],
        left[1] if left[1][1] <= right[1][1] else right[1],
        left[2] if left[2][1] >= right[2][1] else right[2],
        right[3],
        left[4] + right[4],
        left[5] + right[5],
    )


@dataclass
class LayerGrid:
    """Mean log10 of one figure per layer and bucket of steps. Where `is_linear`, the log10 of the mean."""

    is_linear: bool = False
    layers: dict[str, None] = field(default_factory=dict)
    _width_log2: int = 0
    _columns: dict[int, dict[str, list[float]]] = field(default_factory=dict)
    _last: dict[int, int] = field(default_factory=dict)
    """The last step of each bucket."""

    def adder(self, layer: str) -> Add:
        """A function that takes points of one layer; what has no logarithm is left out."""
        self.layers[layer] = None

        def add(step: int, value: float) -> None:
            column = self._columns.get(step >> self._width_log2)
            if column is None:
                self._columns[step >> self._width_log2] = column = {}
                if len(self._columns) > max(24, min(MAX_GRID_COLUMNS, MAX_GRID_CELLS // len(self.layers))):
                    self._halve()
                    column = self._columns[step >> self._width_log2]
            self._last[step >> self._width_log2] = step
            if 0 < value < math.inf or (self.is_linear and value == 0):
                cell = column.setdefault(layer, [0, 0.0])
                cell[0] += 1
                cell[1] += value if self.is_linear else math.log10(value)

        return add

    def _halve(self) -> None:
        self._width_log2 += 1
        halved: dict[int, dict[str, list[float]]] = {}
        for key, column in self._columns.items():
            target = halved.setdefault(key >> 1, {})
            for layer, (number, total) in column.items():
                cell = target.setdefault(layer, [0, 0.0])
                cell[0] += number
                cell[1] += total
        self._columns = halved
        self._last = {key >> 1: self._last[key] for key in sorted(self._last)}

    @property
    def steps_per_column(self) -> int:
        """Width of a bucket in steps."""
        return 1 << self._width_log2

    def columns(self) -> list[tuple[int, int]]:
        """Each column's last step, after that of the column before it: a figure stands for the steps since the last
        one. So the first begins before the first step, and the last ends with the last. What was measured before the
        first step has a column before 0, as wide as the next."""
        ends = [self._last[key] for key in sorted(self._last)]
        gap = ends[1] - ends[0] if len(ends) > 1 else self.steps_per_column
        return list(zip([max(0, ends[0] - gap) if ends[0] else -gap, *ends[:-1]], ends, strict=True)) if ends else []

    def row(self, layer: str) -> list[float | None]:
        """The layer's mean log10 for each column, None where there is no positive figure."""
        if self.is_linear:
            return [math.log10(mean) if mean else None for mean in self.means(layer)]
        return self.means(layer)

    def means(self, layer: str) -> list[float | None]:
        """The layer's mean for each column, of log10 where the grid is not linear."""
        cells = (self._columns[key].get(layer) for key in sorted(self._columns))
        return [None if cell is None else cell[1] / cell[0] for cell in cells]


@dataclass
class Metrics:
    """What the report draws of a training."""

    num_lines: int = 0
    last_step: int | None = None
    """Of the last record."""

    last: dict[str, tuple[int, float]] = field(default_factory=dict)
    """The last value of each curve, with its step."""

    curves: dict[str, Curve] = field(default_factory=dict)
    gradients: LayerGrid = field(default_factory=LayerGrid)
    updates: LayerGrid = field(default_factory=LayerGrid)
    matrices: LayerGrid = field(default_factory=LayerGrid)
    """The gradient's norm by matrix."""

    outputs: LayerGrid = field(default_factory=LayerGrid)
    """The norm of d(loss)/d(output) by module."""

    scales: LayerGrid = field(default_factory=LayerGrid)
    """The root mean square of outputs by module."""

    attention: LayerGrid = field(default_factory=lambda: LayerGrid(is_linear=True))
    """The entropy of attention by layer, as a part of that of looking evenly."""

    experts: LayerGrid = field(default_factory=lambda: LayerGrid(is_linear=True))
    """Loads over the even share, by layer and expert."""

    expert_extremes: LayerGrid = field(default_factory=lambda: LayerGrid(is_linear=True))
    """The least and the largest load of each layer."""

    mean_loads: LayerGrid = field(default_factory=lambda: LayerGrid(is_linear=True))
    """Shares of the tokens by expert, as means over the layers."""

    times: LayerGrid = field(default_factory=lambda: LayerGrid(is_linear=True))
    """Seconds a step by phase."""

    def curve(self, tag: str) -> Curve:
        """The series of a tag; an empty one when it was never logged."""
        return self.curves.get(tag) or Curve()

    def _route(self, tag: str) -> Add | None:
        """Where the values of a tag go; None for what is not drawn."""
        part, _, rest = tag.partition("/")
        name, _, figure = rest.rpartition("/")
        if part == "train" and name == "expert_load":
            return self.mean_loads.adder(f"expert {figure}")
        if part in ("train", "eval", "throughput", "benchmark", "embedding"):
            return self.curves.setdefault(tag, Curve()).add
        if part == "time":
            return self.times.adder(figure.removesuffix("_seconds"))
        if part == "experts" and figure.startswith("load_"):
            which = figure.removeprefix("load_")
            if which.isdigit():
                return self.experts.adder(f"{name} expert {which}")
            return self.expert_extremes.adder(f"{name} {which}")
        grids = {
            ("layers", "grad_norm"): self.gradients,
            ("layers", "update_ratio"): self.updates,
            ("matrices", "grad_norm"): self.matrices,
            ("probe", "out_grad_norm"): self.outputs,
            ("probe", "out_rms"): self.scales,
            ("attention", "entropy_mean"): self.attention,
        }
        grid = grids.get((part, figure))
        return grid.adder(name) if grid is not None else None


def read_curves(path: Path) -> Metrics:
    """Read a metrics.jsonl. A missing file gives empty metrics.

    Lines that are no JSON object with a step, such as the end of a file that a kill cut short, are passed over.
    """
    metrics = Metrics()
    routes: dict[str, Add | None] = {}
    for record in read_records(path):
        metrics.num_lines += 1
        metrics.last_step = record["step"]
        for tag, value in (record | with_layers(record)).items():
            if tag not in routes:
                routes[tag] = metrics._route(tag)
            add = routes[tag]
            if add is not None and isinstance(value, (int, float)):
                add(record["step"], value)
                if tag in metrics.curves:
                    metrics.last[tag] = (record["step"], value)
    return metrics
