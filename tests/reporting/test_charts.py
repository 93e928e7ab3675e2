from __future__ import annotations

import json
import math
import re
from xml.etree import ElementTree

import pytest

from pipeline.reporting.charts import WIDTH, ChartBar, Line, bar_chart, line_chart, sparkline
from pipeline.reporting.heatmap import heat_map, layer_labels
from pipeline.reporting.recorded_curves import LayerGrid
from pipeline.reporting.svg_axes import linear_scale, log_scale


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


@pytest.mark.parametrize(
    ("values", "labels", "factor"),
    [
        ([3.1, 8.4], ["3", "4", "5", "6", "7", "8", "9"], ""),
        ([0.0, 0.005], ["0", "1", "2", "3", "4", "5"], " (\u00d710⁻³)"),
        ([13_400, 15_100], ["13,000", "13,500", "14,000", "14,500", "15,000", "15,500"], ""),
        ([0.1, 0.35], ["0.10", "0.15", "0.20", "0.25", "0.30", "0.35"], ""),
        ([-1.0, 1.0], ["\u22121.0", "\u22120.5", "0.0", "0.5", "1.0"], ""),
    ],
)
def test_linear_ticks_are_round_and_short(values: list[float], labels: list[str], factor: str) -> None:
    scale = linear_scale(values, 0, 100)
    assert [label for _, label in scale.ticks] == labels
    assert scale.factor == factor
    assert all(-1e-9 <= scale(value) <= 100 + 1e-9 for value in values)


@pytest.mark.parametrize("values", [[5.0], [0.0], [], [1e-12, 1e-12], [-3.0, -3.0], [1e9, 1e9 + 1]])
def test_scales_survive_a_single_value(values: list[float]) -> None:
    scale = linear_scale(values, 0, 100)
    assert scale.low < scale.high
    assert len(scale.ticks) >= 2
    assert len({label for _, label in scale.ticks}) >= 2


@pytest.mark.parametrize("values", [[0.7, 4.2], [1e-9, 3e4], [2.0], [0.999, 1.001], [1.0, 1.0]])
def test_log_scales_enclose_their_values(values: list[float]) -> None:
    scale = log_scale(values, 200, 0)
    assert all(-1e-6 <= scale(value) <= 200 + 1e-6 for value in values)
    assert 2 <= len(scale.ticks) <= 8


def test_a_line_chart_has_axes_units_legend_and_its_points() -> None:
    points = [(step, 9 - step / 100) for step in range(1, 301)]
    chart = line_chart(
        [Line("training", points, "c1"), Line("none", [], "c2")], title="Loss", y_label="loss (nats per token)"
    )
    found = texts(chart)
    assert {"training", "loss (nats per token)", "step (optimizer updates)", "100", "200", "300"} <= set(found)
    assert "none" not in found
    (line,) = ElementTree.fromstring(chart).iter("polyline")
    assert len(line.attrib["points"].split()) == 300


def test_a_chart_of_nothing_is_nothing() -> None:
    assert line_chart([Line("a", [], "c1")], title="t", y_label="y") == ""
    assert line_chart([Line("a", [(1, 0.0)], "c1")], title="t", y_label="y", log_y=True) == ""
    assert bar_chart([], title="t", x_label="x") == ""
    assert heat_map(LayerGrid(), title="t", scale_label="s") == ""
    assert sparkline([1.0]) == ""


def test_one_step_is_drawn_as_a_dot() -> None:
    chart = line_chart([Line("training", [(1, 9.1)], "c1")], title="Loss", y_label="loss")
    assert len(list(ElementTree.fromstring(chart).iter("circle"))) == 1
    assert texts(chart).count("1") == 1


def test_labels_are_escaped() -> None:
    chart = bar_chart([ChartBar("<b>&\"'", 1.0)], title="<i>\"'", x_label="bits")
    assert "<b>" not in chart
    assert "<b>&\"'" in texts(chart)


def test_bars_are_proportional_from_zero() -> None:
    root = ElementTree.fromstring(
        bar_chart([ChartBar("a", 1.0), ChartBar("b", 3.0, highlight=True)], title="t", x_label="bits")
    )
    first, second = (float(rect.attrib["width"]) for rect in root.iter("rect"))
    assert second == pytest.approx(3 * first, rel=1e-3)


def test_a_heat_map_names_layers_and_colours_by_size() -> None:
    grid = LayerGrid()
    for index in range(3):
        add = grid.adder(f"layers.{index}")
        for step in range(1, 5):
            add(step, 10.0 ** (-index) if step < 4 else 0.0)
    chart = heat_map(grid, title="Gradients", scale_label="gradient norm", marks=[(0.1, "<a mark>")])
    root = ElementTree.fromstring(chart)
    assert {"layers.0", "layers.2", "Gradients: gradient norm by layer", "10⁻¹"} <= set(texts(chart))
    cells = [path for path in root.iter("path") if path.attrib.get("fill")]
    assert len({path.attrib["fill"] for path in cells}) == 3
    tops = {path.attrib["fill"]: re.findall(r"M[\d.]+ ([\d.]+)", path.attrib["d"]) for path in cells}
    assert tops["#440154"] == ["239.33"]
    assert tops["#fde725"] == ["26"]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["embed_tokens", "layers.0", "layers.1", "norm"], ["embed_tokens", "layers.0", "layers.1", "norm"]),
        (
            ["decoder.embed_tokens", "decoder.layers.0", "decoder.layers.11", "lm_head"],
            ["embed_tokens", "layers.0", "layers.11", "lm_head"],
        ),
        (["encoder.layers.0", "decoder.layers.0"], ["encoder.layers.0", "decoder.layers.0"]),
        (["a.norm", "a.layers.0", "norm"], ["a.norm", "a.layers.0", "norm"]),
        ([f"{'x' * 30}.{i}" for i in (0, 1)], [f"…{'x' * 15}.{i}" for i in (0, 1)]),
    ],
)
def test_labels_of_layers_differ_where_their_names_do(names: list[str], labels: list[str]) -> None:
    assert layer_labels(names) == labels


def test_labels_of_modules_that_end_alike_are_cut_in_the_middle() -> None:
    names = [f"layers.{layer}.moe.experts.{what}" for layer in range(12) for what in ("gate_up_proj", "down_proj")]
    labels = layer_labels(names)
    assert labels[:2] == ["0.mo….gate_up_proj", "0.mo…rts.down_proj"]
    assert len(set(labels)) == len(names)


def test_a_heat_map_ends_with_the_last_step() -> None:
    grid = LayerGrid()
    add = grid.adder("layers.0")
    for step in range(10, 651, 10):
        add(step, 2.0**step if step % 20 else 1.0)
    chart = ElementTree.fromstring(heat_map(grid, title="t", scale_label="s"))
    data = json.loads(chart.attrib["data-heat"])
    assert data["x"][2:] == [0, 650]
    assert data["ends"] == list(range(10, 651, 10))
    ends = [
        float(end)
        for path in chart.iter("path")
        if "fill" in path.attrib
        for end in re.findall(r"H([\d.]+)v", path.attrib["d"])
    ]
    assert max(ends) == data["x"][1]


@pytest.mark.parametrize("steps", [[0], [0, 10, 20, 30]])
def test_what_was_measured_before_the_first_step_is_seen(steps: list[int]) -> None:
    grid = LayerGrid()
    add = grid.adder("layers.0")
    for step in steps:
        add(step, 10.0 ** (step / 10))
    chart = ElementTree.fromstring(heat_map(grid, title="t", scale_label="s"))
    cells = [
        re.findall(r"M([\d.]+) [\d.]+H([\d.]+)v", path.attrib["d"])
        for path in chart.iter("path")
        if "fill" in path.attrib
    ]
    widths = [float(end) - float(start) for [(start, end)] in cells]
    assert widths == pytest.approx([widths[0]] * len(steps), abs=0.02)
    assert widths[0] > 10
    assert "0" in texts(ElementTree.tostring(chart, encoding="unicode"))
    assert not [tick for tick in texts(ElementTree.tostring(chart, encoding="unicode")) if tick.startswith("-")]


@pytest.mark.parametrize("last", [600, 20_000, 2_500_000])
def test_the_last_tick_of_the_steps_lies_within_the_drawing(last: int) -> None:
    chart = line_chart([Line("training", [(0, 1.0), (last, 2.0)], "c1")], title="t", y_label="y")
    ticks = [each for each in ElementTree.fromstring(chart).iter("text") if each.attrib.get("text-anchor") == "middle"]
    reaches = [float(each.attrib["x"]) + 3.3 * len(each.text or "") for each in ticks if each.attrib["class"] == "tick"]
    assert WIDTH - 30 < max(reaches) <= WIDTH


def test_many_layers_stay_small() -> None:
    grid = LayerGrid()
    adders = [grid.adder(f"layers.{index}") for index in range(120)]
    for step in range(1, 2001):
        for index, add in enumerate(adders):
            add(step, math.exp(math.sin(step / 50 + index)))
    chart = heat_map(grid, title="t", scale_label="s")
    assert len(chart) < 300_000
    ElementTree.fromstring(chart)
