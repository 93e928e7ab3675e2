"""The page of two runs side by side."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from comparison.test_comparison import scored, workspace, write_run
from reporting.fake_run import health, metrics_lines
from reporting.page_values import drawn_values
from reporting.test_html import check
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.comparison.diff_page import comparison_page
from pipeline.engine.artifacts import Workspace
from pipeline.reporting.formats import real

__all__ = ["workspace"]  # a fixture


def write_records(workspace: Workspace, name: str, factor: float) -> list[dict[str, Any]]:
    """Records of a training whose losses are so many times the usual ones."""
    state = json.loads((workspace.run(name) / "run.json").read_text())
    records = [json.loads(line) for line in metrics_lines(60, eval_steps=20)]
    for record in records:
        record |= {tag: value * factor for tag, value in record.items() if tag in ("train/loss", "eval/loss")}
    path = workspace.artifact("train", state["stages"]["train"]["key"]) / "metrics.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return records


@pytest.fixture
def records(workspace: Workspace) -> list[list[dict[str, Any]]]:
    """Of the runs a and b, of which the second has another rate and a training that diverged."""
    write_run(workspace, "a")
    bad = [health("loss", "training_diverged", "critical", "the loss rose from 3.0 to <9.0>")]
    write_run(
        workspace,
        "b",
        settings={"train": {"learning_rate": 0.01}},
        contents={"train": "another"},
        summaries={"train": {"health": bad}, "evaluate": {"test": scored(bits_per_byte=1.9)}},
        state={"outcome": "failed", "message": "it <stopped>", "exit_code": 70},
    )
    return [write_records(workspace, "a", 1.0), write_records(workspace, "b", 1.5)]


def test_both_runs_stand_side_by_side(workspace: Workspace, records: list[list[dict[str, Any]]]) -> None:
    page = comparison_page(workspace, ["a", "b"])
    text = check(page).text
    for words in (
        "a and b",
        "train.learning_rate 0.001 0.01",
        "bits per byte 2.081 1.900 \u22120.1812 b is better",
        "not finished it <stopped>",
        "critical health: training diverged the loss rose from 3.0 to <9.0>",
        "2.46M target tokens",
    ):
        assert words in text, words
    assert "<stopped>" not in page
    assert text.count("Every record of the training is judged") == 1
    assert page.count('class="flow column"') == 1, "what is alike is drawn once"
    assert page.count('aria-label="Gradients: ') == 2
    assert page.count('aria-label="Loss: ') == 1, "both are in one drawing"


def test_the_curves_are_those_of_the_records(workspace: Workspace, records: list[list[dict[str, Any]]]) -> None:
    page = comparison_page(workspace, ["a", "b"])
    for tag in ("train/loss", "eval/loss", "train/grad_norm", "train/learning_rate", "throughput/tokens_per_second"):
        drawn = [points for name, points in drawn_values(page) if name == tag]
        assert len(drawn) == 2, tag
        for points, run in zip(drawn, records, strict=True):
            known = {record["step"]: record[tag] for record in run if tag in record}
            assert len(points) == len(known)
            for step, value, error in points:
                assert value == pytest.approx(known[step], abs=error), tag


def test_a_much_lower_rate_is_no_flat_line(workspace: Workspace, records: list[list[dict[str, Any]]]) -> None:
    """Each is drawn as a part of its peak, which the legend names."""
    state = json.loads((workspace.run("b") / "run.json").read_text())
    path = workspace.artifact("train", state["stages"]["train"]["key"]) / "metrics.jsonl"
    for record in records[1]:
        record |= (
            {"train/learning_rate": 100 * record["train/learning_rate"]} if "train/learning_rate" in record else {}
        )
    path.write_text("".join(json.dumps(record) + "\n" for record in records[1]))
    page = comparison_page(workspace, ["a", "b"])
    chart = re.search('<svg[^>]*aria-label="Learning rate: .*?</svg>', page, re.DOTALL)
    assert chart is not None
    peak = max(record.get("train/learning_rate", 0) for record in records[0])
    assert f"a, peak {real(peak, 3)}" in chart[0]
    assert f"b, peak {real(100 * peak, 3)}" in chart[0]
    heights = [min(float(y) for y in re.findall(r",([\d.]+)", one)) for one in re.findall('points="(.*?)"', chart[0])]
    assert len(heights) == 2
    assert heights[0] == heights[1]


def test_maps_beside_each_other_have_one_scale(workspace: Workspace, records: list[list[dict[str, Any]]]) -> None:
    state = json.loads((workspace.run("b") / "run.json").read_text())
    path = workspace.artifact("train", state["stages"]["train"]["key"]) / "metrics.jsonl"
    larger = [{tag: 30 * v if tag.startswith("matrices/") else v for tag, v in one.items()} for one in records[1]]
    path.write_text("".join(json.dumps(record) + "\n" for record in larger))
    page = comparison_page(workspace, ["a", "b"])
    maps = re.findall('<svg[^>]*aria-label="Gradients: .*?</svg>', page, re.DOTALL)
    bars = [re.findall(r'<text x="[\d.]+" y="([\d.]+)" class="tick">(.*?)<', one) for one in maps]
    assert len(maps) == 2
    assert bars[0] == bars[1] != []
    tops = [{re.findall('fill="(#.*?)"', cell)[0] for cell in re.findall("<path shape.*?>", one)} for one in maps]
    assert "#fde725" in tops[1] - tops[0], "the largest value has the brightest colour"


def test_bars_beside_each_other_have_one_scale(workspace: Workspace) -> None:
    for name, loss in (("a", 1.0), ("b", 4.0)):
        parts = [{"from": 0, "to": 7, "loss": loss, "tokens": 8}]
        write_run(workspace, name, contents={"evaluate": name}, summaries={"evaluate": {"by_position": parts}})
    page = comparison_page(workspace, ["a", "b"])
    charts = re.findall('<svg[^>]*aria-label="Loss by the number of tokens.*?</svg>', page, re.DOTALL)
    widths = [float(re.findall('width="([0-9.]+)"[^>]*class="bar"', chart)[0]) for chart in charts]
    assert len(widths) == 2
    assert widths[1] == pytest.approx(4 * widths[0], rel=1e-3)


def test_the_same_run_twice_has_nothing_that_differs(workspace: Workspace) -> None:
    write_run(workspace, "a")
    text = check(comparison_page(workspace, ["a", "a"])).text
    assert "The configurations are the same." in text
    assert "Both runs have this training." in text
    assert "B is better" not in text
    assert "A is better" not in text


def test_a_run_before_its_first_stage(workspace: Workspace) -> None:
    write_run(workspace, "a")
    write_run(workspace, "b", until="ingest", state={"outcome": "failed", "message": "no text", "exit_code": 65})
    text = check(comparison_page(workspace, ["a", "b"])).text
    assert "not finished no text" in text
    assert "The model was not evaluated." in text


def test_a_training_that_ended_before_its_first_step(workspace: Workspace, records: list[list[dict[str, Any]]]) -> None:
    state = json.loads((workspace.run("b") / "run.json").read_text())
    path = workspace.artifact("train", state["stages"]["train"]["key"]) / "metrics.jsonl"
    path.write_text(json.dumps({"step": 0, "target_tokens": 0, "seconds": 0.0}) + "\n")
    text = check(comparison_page(workspace, ["a", "b"])).text
    assert "a step has" not in text


def test_the_command_writes_it(workspace: Workspace, tmp_path: Path) -> None:
    write_run(workspace, "a")
    write_run(workspace, "b")
    config, page = str(workspace.run("a") / "config.yaml"), tmp_path / "ab.html"
    common = ["diff", config, "a", "b", f"run.workspace={workspace.root}"]
    result = CliRunner().invoke(app, [*common, "--html", str(page)])
    assert result.exit_code == 0, result.output
    assert result.output == f"page  {page}  (open in a browser)\n"
    check(page.read_text())
    assert re.search("<title>a and b", page.read_text())
    missing = CliRunner().invoke(app, [*common, "--html", str(tmp_path / "nowhere/ab.html")])
    assert (missing.exit_code, "nowhere" in missing.output) == (74, True)
    for extra, words in (["--json"], "give one of them"), (["c"], "shows two runs side by side, and 3 are named"):
        refused = CliRunner().invoke(app, [*common, *extra, "--html", str(page)])
        assert (refused.exit_code, words in " ".join(refused.output.split())) == (2, True)
