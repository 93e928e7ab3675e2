"""The page of a run that goes on: renewed when it gets on, until it ends."""

from __future__ import annotations

import itertools
import json
import os
import re
import statistics
import threading
from pathlib import Path
from typing import Any

import pytest
from comparison.test_comparison import workspace, write_run
from reporting.fake_run import metrics_lines
from reporting.test_html import check
from typer.testing import CliRunner

from pipeline.atomic import digest_json, sealed, write_json
from pipeline.cli import app
from pipeline.engine.artifacts import Workspace
from pipeline.engine.manifests import input_digests, read_manifest
from pipeline.engine.status import format_status
from pipeline.engine.work_folders import IDENTITY
from pipeline.errors import InterruptedUnsaved, MissingInputError
from pipeline.reporting.live_page import live_pages
from pipeline.reporting.report_config import ReportConfig
from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.panel import replay
from pipeline.telemetry.verdicts import Evidence, Verdict
from pipeline.training.recording.metrics_file import verdicts_so_far

__all__ = ["workspace"]  # a fixture


class Training:
    """A run whose training is at work: its records and its run.json can be written as the training would."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.view = workspace, workspace.run("a")
        write_run(workspace, "a", until="model")
        self.state = json.loads((self.view / "run.json").read_text())
        stage, key = workspace.stage("train"), digest_json("training")[:16]
        self.work = workspace.checkpoints(key)
        self.work.mkdir(parents=True)
        keys = {name: entry["key"] for name, entry in self.state["stages"].items()}
        manifests = {name: read_manifest(workspace.artifact(name, key)) for name, key in keys.items()}
        known = {name: manifest for name, manifest in manifests.items() if manifest is not None}
        inputs = input_digests(stage, known)
        identity = {"stage": "train", "section": {"max_steps": 300}, "seed": 42, "inputs": inputs}
        (self.work / IDENTITY).write_text(json.dumps(sealed(identity)))
        self.lines = list(metrics_lines(300))
        self.tell(outcome="running", training=key)

    def tell(self, **state: Any) -> None:
        """Write run.json."""
        self.state.pop("seal", None)
        self.state |= state
        write_json(self.view / "run.json", sealed(self.state))

    def record(self, steps: int) -> None:
        """Write the records of so many steps."""
        (self.work / "metrics.jsonl").write_text("".join(self.lines[:steps]))


@pytest.fixture
def training(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Training:
    monkeypatch.setattr(Workspace, "is_locked", lambda *_: True)
    return Training(workspace)


def files_of(workspace: Workspace) -> dict[str, tuple[int, int]]:
    """Every file but the page, with its size and time."""
    paths = [path for path in workspace.root.rglob("*") if path.is_file() and path.name != "report-live.html"]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


def test_the_page_follows_a_training_and_ends_with_it(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    training.record(10)
    pages: list[str] = []
    looked: list[float] = []

    def goes_on(seconds: float) -> None:
        looked.append(seconds)
        if len(looked) == 2:
            training.record(20)
        if len(looked) == 3:
            training.tell(outcome="failed", message="training diverged: <loss> 9", exit_code=70)

    monkeypatch.setattr("time.sleep", goes_on)
    before = files_of(training.workspace)
    for path in live_pages(training.workspace, "a", ReportConfig(), 3.0):
        pages.append(path.read_text())
        assert path == training.view / "report-live.html"
    assert looked == [3.0] * 3
    assert len(pages) == 3, "looked at four times, written when something was new"
    changed = {name for name, found in files_of(training.workspace).items() if found != before.get(name)}
    assert {os.path.basename(name) for name in changed} == {"metrics.jsonl", "run.json"}, (
        "nothing but the page is written"
    )
    for page, steps in zip(pages, (10, 20, 20), strict=True):
        value = json.loads(training.lines[steps - 1])["train/loss"]
        assert f'data-tag="train/loss" data-step="{steps}">{value:.3f}<' in page
        check(page)
    for page, steps in zip(pages, (10, 20), strict=False):
        assert f"running training, step {steps} of " in check(page).text
        assert "train max_steps 300 run.seed 42" in check(page).text, "what is not done yet has settings as well"
        assert re.search('<meta http-equiv="refresh" content="3">', page)
    assert "refresh" not in pages[2]
    assert "not finished training diverged: <loss> 9" in check(pages[2]).text


def test_a_torn_record_is_passed_over(training: Training) -> None:
    training.record(10)
    with (training.work / "metrics.jsonl").open("a") as file:
        file.write('{"step": 11, "train/lo')
    page = next(live_pages(training.workspace, "a", ReportConfig(), 10)).read_text()
    assert 'data-step="10"' in page
    assert "step 10 of " in page


def test_before_the_training_the_stages_are_told(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "is_locked", lambda *_: True)
    write_run(workspace, "a", until="normalize", state={"outcome": "running"})
    page = next(live_pages(workspace, "a", ReportConfig(), 10)).read_text()
    assert "running ingest, normalize done" in check(page).text


FACTS = HealthFacts(
    "tokens", 300, 10, 1e-3, 1.0, is_pretrained=False, stops_early=False, guess_loss=8.3, frequency_loss=6.125
)


def rows_of_health(page: str) -> dict[str, tuple[str, str]]:
    """The verdict and the evidence of each row of the table, by what was judged."""
    found = {}
    for row in re.findall(r"<tr>.*?</tr>", page.split('id="health"')[1].split("</table>")[0], re.S)[1:]:
        kind, verdict, evidence, *_ = (
            re.sub("<[^>]+>", "", cell).strip() for cell in re.findall("<t[hd].*?</t[hd]>", row)
        )
        word, _, what = verdict.partition(" ")
        found[what or kind] = (word, evidence)
    return found


def test_a_training_that_goes_on_is_judged_up_to_its_last_record(training: Training) -> None:
    (training.work / "facts.json").write_text(json.dumps(FACTS.as_json()))
    training.record(20)
    [path] = itertools.islice(live_pages(training.workspace, "a", ReportConfig(), 10), 1)
    page = path.read_text()
    rows = rows_of_health(page)
    loss = statistics.median(json.loads(line)["train/loss"] for line in training.lines[15:20])
    assert rows["loss"] == (
        "healthy",
        f"the median training loss is {loss:.4g} at step 20; guessing evenly costs 8.3",
    )
    assert {"validation", "gradients", "updates", "activations", "attention"} <= rows.keys()
    assert "Judged so far: up to step 20 of 300." in check(page).text
    assert "so far step 20 of 300 loss" in check(page).text, "the box of the training in the drawing"
    assert "no artifact" not in page
    assert {"guessing 8.300", "token frequencies 6.125"} <= {
        *re.findall(r"(?:guessing|token frequencies) [\d.]+", page)
    }


def test_the_evidence_is_that_of_the_last_record(training: Training) -> None:
    (training.work / "facts.json").write_text(json.dumps(FACTS.as_json()))
    told = []
    for steps in (8, 12):
        lines = [json.dumps({**json.loads(line), "train/loss": 50 - step}) for step, line in enumerate(training.lines)]
        (training.work / "metrics.jsonl").write_text("\n".join(lines[:steps]) + "\n")
        page = next(live_pages(training.workspace, "a", ReportConfig(), 10)).read_text()
        told.append(rows_of_health(page)["loss above guessing"])
    assert [(verdict, re.findall("is ([0-9]+)", words)[0]) for verdict, words in told] == [
        ("critical", "45"),
        ("critical", "41"),
    ]


def test_status_tells_how_far_it_has_come(training: Training) -> None:
    (training.work / "facts.json").write_text(json.dumps(FACTS.as_json()))
    training.record(20)
    loss = json.loads(training.lines[19])["train/loss"]
    line = f"  step 20 of 300, loss {loss:.3f}, healthy"
    assert line in format_status(training.workspace, lambda path: {}).splitlines()
    message = f"the training failed: {'because ' * 30}of this"
    training.tell(outcome="failed", message=message, exit_code=70)
    lines = format_status(training.workspace, lambda path: {}).splitlines()
    assert lines[lines.index(line) + 1] == f"  {message}", "whole"
    bad = Verdict("loss", "loss_above_guessing", "critical", Evidence(10, "..."), since=5)
    (training.work / "health.jsonl").write_text(json.dumps({"at": 10, **bad.as_json()}) + "\n")
    line = f"  step 20 of 300, loss {loss:.3f}, critical: loss above guessing since step 5"
    assert line in format_status(training.workspace, lambda path: {}).splitlines()


def test_who_watches_judges_as_who_looks_once(training: Training) -> None:
    """Also of records that were cut back and written anew."""
    (training.work / "facts.json").write_text(json.dumps(FACTS.as_json()))
    bad = [json.dumps({**json.loads(line), "train/loss": 50.0}) + "\n" for line in training.lines]
    path = training.work / "metrics.jsonl"
    for lines in (training.lines[:20], training.lines[:40], bad[:30], bad[:31], training.lines[:31], bad[:50]):
        path.write_text("".join(lines))
        once = replay(FACTS, map(json.loads, lines)).verdicts(is_over=False)
        assert verdicts_so_far(training.work) == once


def test_there_has_to_be_a_run(workspace: Workspace) -> None:
    with pytest.raises(MissingInputError, match="there is no run to report of"):
        next(live_pages(workspace, "a", ReportConfig(), 10))


def test_the_command_writes_it_once_or_watches(training: Training) -> None:
    training.record(5)
    common = [str(training.view / "config.yaml"), f"run.workspace={training.workspace.root}"]
    result = CliRunner().invoke(app, ["report", *common])
    page = training.view / "report-live.html"
    assert (result.exit_code, result.output) == (0, f"page  {page}  (open in a browser)\n")
    assert 'data-step="5"' in page.read_text()
    assert 'http-equiv="refresh"' not in page.read_text(), "nobody would renew it"

    timer = threading.Timer(0.3, lambda: training.tell(outcome="done", exit_code=0))
    timer.start()
    result = CliRunner().invoke(app, ["report", *common, "--watch", "0.1"])
    timer.join()
    assert result.exit_code == 0
    assert result.output == f"page  {page}  (open in a browser)\nthe run has ended; the page is its last\n"
    assert "refresh" not in page.read_text()

    for wrong in (["3"], ["--watch", "often"], ["--watch", "0"], ["--watch", "1", "2"]):
        assert CliRunner().invoke(app, ["report", *common, *wrong]).exit_code == 2, wrong


def test_who_stops_looking_has_lost_nothing(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(seconds: float) -> None:
        raise InterruptedUnsaved(2)

    monkeypatch.setattr("time.sleep", stopped)
    arguments = [str(training.view / "config.yaml"), f"run.workspace={training.workspace.root}", "--watch"]
    result = CliRunner().invoke(app, ["report", *arguments])
    assert (result.exit_code, result.output.count("\n")) == (0, 1)


def test_a_killed_run_is_told(workspace: Workspace, tmp_path: Path) -> None:
    write_run(workspace, "a", until="model", state={"outcome": "running"})
    pages = [path.read_text() for path in live_pages(workspace, "a", ReportConfig(), 10)]
    assert len(pages) == 1
    assert "not finished the run was killed" in check(pages[0]).text
