"""Drawings of a network, of time, of experts and of calibration: they show the figures that they are given."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from reporting.fake_run import (
    MATRICES,
    NUM_EXPERTS,
    NUM_LAYERS,
    labelled_changes,
    make_run,
    mixture_changes,
    mixture_lines,
)
from reporting.page_values import drawn_cells, drawn_stacks, drawn_values

from pipeline.reporting.charts import Level, Line, line_chart
from pipeline.reporting.flow_column import flow_column
from pipeline.reporting.flow_diagram import flow_diagram, flow_of
from pipeline.reporting.html import render_pair, render_report
from pipeline.reporting.network_drawing import network_drawing
from pipeline.reporting.recorded_curves import LayerGrid
from pipeline.reporting.reliability import reliability_diagram
from pipeline.reporting.report_config import ReportConfig
from pipeline.reporting.run_data import read_run
from pipeline.reporting.sections.activations_section import evenly_of_blocks
from pipeline.reporting.sections.curves_section import reference_levels


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def bars(svg: str) -> list[tuple[str, float]]:
    """Class and width of every rectangle but those of the legend."""
    found = [(one.get("class", ""), float(one.get("width", ""))) for one in ElementTree.fromstring(svg).iter("rect")]
    return [bar for bar in found if bar[1] != 12]


def test_bars_of_a_network_are_as_long_as_their_layers_are_large() -> None:
    parts = [
        {"name": "embed_tokens", "parameters": 4000, "trainable": 0},
        {"name": "layers.0.attention", "parameters": 1000, "trainable": 250},
        {"name": "layers.0.mlp", "parameters": 2000, "trainable": 2000},
        {"name": "norm", "parameters": 10},
    ]
    drawing = network_drawing(parts)
    drawn = bars(drawing)
    assert [css for css, _ in drawn] == ["frozen", "s1", "frozen", "s3", "s2"]
    unit = drawn[0][1] / 4000
    assert [width / unit for _, width in drawn] == pytest.approx([4000, 250, 750, 2000, 10], abs=0.5)
    assert {"embed_tokens", "layers.0", "norm", "4.00k", "3.00k", "10", "frozen", "attention"} <= set(texts(drawing))
    assert "layers.0 attention: 1,000 parameters, 250 trained" in drawing
    assert network_drawing([]) == ""


def test_blocks_of_one_shape_are_one_bar() -> None:
    parts = [{"name": f"layers.{layer}.mlp", "parameters": 100 + (layer == 2)} for layer in range(40)]
    drawing = network_drawing(parts)
    assert len(bars(drawing)) == 4
    assert {"layers.0", "layers.1", "layers.2", "layers.3 to 39", "37 \u00d7 100"} <= set(texts(drawing))


def test_levels_far_from_the_curves_are_left_out() -> None:
    points = [(step, 4 - step / 100) for step in range(1, 101)]
    levels = [Level("near 4.4", 4.4), Level("close 4.42", 4.42), Level("far 11.9", 11.9)]
    chart = line_chart([Line("training", points, "c1")], title="Loss", y_label="loss", levels=levels)
    assert {"near 4.4", "close 4.42"} <= set(texts(chart))
    assert "far 11.9" not in chart
    places = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="level-name"', chart)
    assert len({x for x, _ in places}) == 2, "names of lines that are close stand beside each other"


def test_the_flow_of_two_runs_tells_once_what_is_alike(tmp_path: Path) -> None:
    first = read_run(make_run(tmp_path / "a", 3), ReportConfig())
    other = read_run(
        make_run(tmp_path / "b", 3, {"normalize": {"documents_out": 7}, "train": {"final_loss": 9.5}}), ReportConfig()
    )
    alike, flow = flow_of([first, first], "ab"), flow_of([first, other], "ab")
    assert alike == flow_of([first], "a")
    assert [name for name, node in flow.nodes.items() if "differs" in node.kind] == ["normalize", "train"]
    train = [words for _, words in flow.nodes["train"].facts]
    assert train[-1] == "b: loss 9.500"
    assert train[:-2] == [words for _, words in alike.nodes["train"].facts[:-1]], "what is alike"
    assert flow.passed_on["normalize"] == ("", "")
    assert ("run2", "b: passes on 7 docs, 2.25 MB") in flow.nodes["normalize"].facts
    drawing = flow_diagram(flow)
    assert drawing.count('class="node documents differs"') == 1
    assert "not the same in both" in drawing
    assert "not the same in both" not in flow_column(alike)


def test_a_baselines_bits_become_the_nats_that_it_needs_for_a_token(tmp_path: Path) -> None:
    """2 bits a byte of a text of 230 bytes in 58 tokens are 2 ln 2 230 / 58 nats a token."""
    changes = mixture_changes()
    bits = 3.6125 * 58 / (230 * 0.6931471805599453)
    own = {"loss": 3.6125, "bits_per_byte": bits, "tokens": 58, "bytes": 230, "documents": 12}
    changes["evaluate"] |= {"test": own, "baselines": {"bigram": {"bits_per_byte": 2.0}, "xz": {"bits_per_byte": 2.5}}}
    run = read_run(make_run(tmp_path, 3, changes), ReportConfig())
    values = {level.label: level.value for level in reference_levels(run)}
    assert values == pytest.approx(
        {"guessing 8.318": 8.318, "token frequencies 6.402": 6.402, "bigram, test split 5.497": 5.49737}, rel=1e-5
    )


def test_what_is_no_loss_is_no_level(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path, 3, labelled_changes(), "classification"), ReportConfig())
    assert [level.label for level in reference_levels(run)] == ["guessing 8.318"]


@pytest.mark.parametrize(
    ("task", "predicts", "labels"),
    [
        ("classification", "classes", ["guessing 10.40", "class frequencies 1.380"]),
        ("regression", "numbers", ["always 0 10.40", "best constant 1.380"]),
    ],
)
def test_levels_of_labels_are_called_what_they_are(tmp_path: Path, task: str, predicts: str, labels: list[str]) -> None:
    changes = labelled_changes()
    changes["train"] = {"facts": {"predicts": predicts, "guess_loss": 10.4, "frequency_loss": 1.38}}
    run = read_run(make_run(tmp_path, 3, changes, task), ReportConfig())
    assert [level.label for level in reference_levels(run)] == labels


@pytest.mark.parametrize("num_blocks", [3, 40, 500])
def test_of_many_blocks_evenly_chosen_ones_are_drawn(num_blocks: int) -> None:
    names = ["embed_tokens", *(f"layers.{block}.{part}" for block in range(num_blocks) for part in "abcd"), "norm"]
    kept = evenly_of_blocks(names, 96)
    assert len(kept) <= 96
    assert {"embed_tokens", "norm", f"layers.{num_blocks - 1}.a"} <= set(kept)
    if num_blocks == 3:
        assert kept == names


def test_a_mean_of_loads_counts_those_that_are_zero() -> None:
    grid = LayerGrid(is_linear=True)
    add = grid.adder("layers.0 expert 0")
    for step in range(1, 201):
        add(step, 2.0 * (step % 2))
    assert grid.steps_per_column > 1
    assert [value for value in grid.means("layers.0 expert 0")[1:-1] if value != pytest.approx(1.0)] == []


def test_a_circle_for_each_group_of_predictions() -> None:
    bins = [
        {"confidence": 0.2, "accuracy": 0.25, "predictions": 100},
        {"confidence": 0.9, "accuracy": 0.5, "predictions": 25},
    ]
    diagram = reliability_diagram(bins, title="Calibration")
    circles = [one.attrib for one in ElementTree.fromstring(diagram).iter("circle")]
    assert float(circles[0]["r"]) == pytest.approx(2 * float(circles[1]["r"]))
    assert (float(circles[1]["cx"]) - 66) / 280 == pytest.approx(0.9)
    assert (292 - float(circles[1]["cy"])) / 280 == pytest.approx(0.5)
    assert "sure to 90.0%, right in 50.0%: 25 predictions" in diagram
    assert reliability_diagram([], title="") == ""


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """The page of a mixture of experts, and its records."""
    folders = make_run(tmp_path_factory.mktemp("mixture"), 0, mixture_changes())
    lines = list(mixture_lines(70))
    (folders["train"] / "metrics.jsonl").write_text("".join(lines))
    return render_report(read_run(folders, ReportConfig())), [json.loads(line) for line in lines]


def test_every_curve_is_that_of_its_records(mixture: tuple[str, list[dict[str, Any]]]) -> None:
    page, records = mixture
    drawn = dict(drawn_values(page))
    assert {"train/loss", "eval/loss", "train/grad_norm", "train/learning_rate"} <= drawn.keys()
    for tag, points in drawn.items():
        known = {record["step"]: record[tag] for record in records if tag in record}
        assert len(points) == len(known)
        for step, value, error in points:
            assert value == pytest.approx(known[step], abs=error), (tag, step)


def test_every_cell_is_that_of_its_records(mixture: tuple[str, list[dict[str, Any]]]) -> None:
    page, records = mixture
    cells = drawn_cells(page)
    by_step = {record["step"]: record for record in records}
    tags = {
        "Experts": lambda row: "experts/{}/load_{}".format(*row.split(" expert ")),
        "Gradient flow": lambda row: f"matrices/{row}/grad_norm",
        "Gradient flow through outputs": lambda row: f"probe/{row}/out_grad_norm",
        "Outputs": lambda row: f"probe/{row}/out_rms",
        "Attention": lambda row: f"attention/{row}/entropy_mean",
    }
    sizes = {"Experts": NUM_EXPERTS, "Gradient flow": len(MATRICES), "Gradient flow through outputs": 2}
    sizes |= {"Outputs": 2, "Attention": 1}
    for title, tag in tags.items():
        assert len(cells[title]) == NUM_LAYERS * sizes[title]
        for row, steps in cells[title].items():
            assert steps.keys() == by_step.keys(), "a column for each of 70 steps"
            for step, value in steps.items():
                assert value == pytest.approx(by_step[step][tag(row)], rel=2e-3), (row, step)
    assert set(cells["Experts"]["layers.11 expert 3"].values()) == {0.0}, "no token was sent to it"


def test_time_is_that_of_its_records(mixture: tuple[str, list[dict[str, Any]]]) -> None:
    page, records = mixture
    [stack] = drawn_stacks(page)
    for record in records:
        for tag, values in stack.items():
            assert values[record["step"]] == pytest.approx(record[tag], rel=1e-3)
    assert len(stack) == 4


def test_the_page_of_two_large_models_stays_small(tmp_path: Path) -> None:
    """64 layers of 9 matrices, 4 experts and 4 modules, whose figures are noise: no two cells have one colour."""
    draw = random.Random(0)
    folders = make_run(tmp_path, 0, mixture_changes())
    layers, figures = range(64), [f"matrices/{{}}.m{matrix}/grad_norm" for matrix in range(9)]
    figures += [f"matrices/{{}}.m{matrix}/weight_norm" for matrix in range(9)]
    figures += [f"matrices/{{}}.m{matrix}/update_norm" for matrix in range(9)]
    figures += [f"probe/{{}}.{module}/{what}" for module in "abcd" for what in ("out_grad_norm", "out_rms")]
    figures += ["attention/{}/entropy_mean", *(f"experts/{{}}/load_{expert}" for expert in range(4))]
    tags = [figure.format(f"layers.{layer}") for layer in layers for figure in figures]
    lines = ({"step": step, **{tag: draw.lognormvariate(0, 1) for tag in tags}} for step in range(1, 97))
    (folders["train"] / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run(folders, ReportConfig())
    assert len(render_report(run)) < 1_500_000
    assert len(render_pair([run, run], ["a", "b"], ["", ""], {})) < 3_000_000


def test_only_a_mixture_has_experts(mixture: tuple[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    page, _ = mixture
    assert '<section id="experts">' in page
    assert 'class="frozen"' in page
    assert len(page) < 3_000_000
    other = render_report(read_run(make_run(tmp_path, 5), ReportConfig()))
    assert 'id="experts"' not in other
    assert 'class="frozen"' not in other
