"""A run's folder shows its last whole result through all that fails, and where the results before it are."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from harness import PATIENCE_SECONDS, STAGES, Project, select, wait_until

from pipeline.config.loading import load_config
from pipeline.engine import runner
from pipeline.engine.plan import Selection
from pipeline.engine.run_view import RunView
from pipeline.engine.stage import Stage, StageContext
from pipeline.errors import BadDataError, InterruptedUnsaved, StorageError, disk_full
from pipeline.stages import STAGES as STAGES_OF_ALL

SLOWER = "train.learning_rate=0.003"
LONG = (SLOWER, "train.max_steps=100000")
DIVERGING = ("train.learning_rate=1e30", "train.max_grad_norm=null", "train.warmup_steps=0")
SHOWN = ("report.html", "metrics.jsonl", "tensorboard", "model/model.safetensors", "model/README.md")


def shown(project: Project) -> dict[str, Path | str]:
    """What a run's folder shows: where links lead, and the content of files."""
    view = project.workspace / "runs/tiny"
    return {
        name: (view / name).resolve() if (view / name).is_symlink() else (view / name).read_bytes().hex()
        for name in SHOWN
    }


def interrupt_training(project: Project, number: int) -> tuple[int, str]:
    """Start a long training of other settings, and send a signal once there is a checkpoint of it."""
    before = {*project.workspace.glob("checkpoints/*/step-*")}
    process = project.start("run", "tiny.yaml", *LONG)
    wait_until(lambda: {*project.workspace.glob("checkpoints/*/step-*")} - before, process)
    live = (project.workspace / "runs/tiny/metrics.jsonl").resolve()
    assert live.parent.parent == (project.workspace / "checkpoints").resolve(), "it can be watched"
    process.send_signal(number)
    return process.wait(PATIENCE_SECONDS), process.stderr.read() if process.stderr else ""


def test_an_interrupted_training_leaves_the_last_result_in_view_and_a_report_of_its_own(finished: Project) -> None:
    before, key = shown(finished), finished.artifact("train").name
    view = finished.workspace / "runs/tiny"
    code, errors = interrupt_training(finished, signal.SIGTERM)
    assert code == 75, errors
    assert shown(finished) == before
    result = re.search(r"(\d\.\d{3} bits per byte \(.*\) after 24 steps)", finished.descent("status", "tiny.yaml").out)
    assert result is not None
    still = rf"still shows the result of \d{{4}}-\d\d-\d\d \d\d:\d\d: {re.escape(result[1])}\n"
    assert re.search(rf"run: workspace/runs/tiny {still}", errors)
    assert re.search(rf"\n  its folder {still}", finished.descent("status", "tiny.yaml").out)
    assert "run: what was done until then is in workspace/runs/tiny/unfinished/report.html\n" in errors
    page = (view / "unfinished/report.html").read_text()
    assert "training: stopped by SIGTERM after step " in page
    assert "No metrics were recorded" not in page
    assert (view / "unfinished/metrics.jsonl").resolve().parent.parent.name == "checkpoints"
    assert "stopped by SIGTERM" not in (view / "report.html").read_text()

    # The sweep leaves both alone; the model that is heard is the one that is shown.
    assert finished.descent("gc", "tiny.yaml", "--delete").code == 0
    assert shown(finished) == before
    assert finished.plan(*LONG)["train"]["action"].startswith("resume (step ")
    heard = finished.descent("generate", "tiny.yaml", "--prompt", "a", SLOWER)
    assert "note: the model of run tiny was made with train.learning_rate 0.005;" in heard.err

    assert set(finished.run().values()) == {"reused"}
    assert (finished.artifact("train").name, shown(finished)) == (key, before)
    assert "shown" not in finished.state()
    assert not (view / "unfinished").exists()
    assert not (view / "earlier").exists()


@pytest.mark.slow
def test_a_page_follows_a_real_training_until_it_ends(finished: Project) -> None:
    """The digests of what was there, and the training's own end, are those of a run that nobody looked at."""
    view, before = finished.workspace / "runs/tiny", shown(finished)
    page = view / "report-live.html"
    training = finished.start("run", "tiny.yaml", *LONG)
    wait_until(lambda: "training" in finished.state() and finished.state()["outcome"] == "running", training)
    watching = finished.start("report", "tiny.yaml", "--watch", "0.2")
    steps: list[int] = []

    def has_got_on() -> bool:
        found = re.search(r'data-tag="train/loss" data-step="(\d+)"', page.read_text() if page.exists() else "")
        steps.extend([int(found[1])] if found else [])
        return len({*steps}) >= 2

    wait_until(has_got_on, watching)
    assert 'http-equiv="refresh"' in page.read_text()
    training.send_signal(signal.SIGTERM)
    assert training.wait(PATIENCE_SECONDS) == 75
    assert watching.wait(PATIENCE_SECONDS) == 0
    assert "training: stopped by SIGTERM after step " in page.read_text()
    assert 'http-equiv="refresh"' not in page.read_text()
    assert shown(finished) == before
    assert finished.descent("verify", "tiny.yaml").code == 0
    records = (view / "unfinished/metrics.jsonl").read_text().splitlines()
    losses = {record["step"]: record.get("train/loss") for record in map(json.loads, records)}
    step, value = re.findall(r'data-tag="train/loss" data-step="(\d+)">([\d.]+)<', page.read_text())[0]
    assert float(value) == pytest.approx(losses[int(step)], rel=1e-3)


def test_a_killed_attempt_does_not_lend_its_settings_to_the_result(finished: Project) -> None:
    before = shown(finished)
    assert interrupt_training(finished, signal.SIGKILL)[0] == -9
    [told] = re.findall("  its folder still shows the result of .*", finished.descent("status", "tiny.yaml").out)
    killed = (finished.workspace / "runs/tiny/metrics.jsonl").resolve().parent.name
    assert told.endswith(f"; its metrics.jsonl, health.jsonl and tensorboard/ are of training {killed}")
    # What is compared is the result, with its settings, and says so.
    finished.run(SLOWER, "run.name=other")
    compared = finished.told("diff", "tiny", "other")
    assert [row["values"] for row in compared["configuration"]] == [[0.005, 0.003]]
    assert [run["outcome"] for run in compared["runs"]] == ["done", "done"]
    assert "the last attempt: killed" in compared["runs"][0]["message"]
    assert all(None not in row["values"] for row in compared["stages"] if "values" in row)
    finished.run(SLOWER)
    [earlier] = (finished.workspace / "runs/tiny/earlier").iterdir()
    named = f"tiny/earlier/{earlier.name}"
    again = finished.told("diff", named, "other")
    assert again["evaluation"] == compared["evaluation"]
    assert [run["name"] for run in again["runs"]] == [named, "other"]
    listed = finished.descent("gc", "tiny.yaml").out
    alone = listed.count("(of an earlier result of run tiny)")
    status = finished.descent("status", "tiny.yaml").out
    assert re.search(rf"\n{alone} of them, .* MB, are of earlier results alone: descent gc sweeps them\n", status)
    assert {name: (earlier / name).resolve() for name in SHOWN[:3]} == {name: before[name] for name in SHOWN[:3]}
    again = finished.descent("plan", str(earlier.relative_to(finished.folder) / "config.yaml"))
    assert again.out.count(" reuse ") == len(STAGES), again.err


@pytest.mark.parametrize("has_result", [True, False])
def test_a_training_that_diverges_gets_a_report_of_its_own(finished: Project, has_result: bool) -> None:
    before = shown(finished)
    name = "tiny" if has_result else "fresh"
    result = finished.descent("run", "tiny.yaml", *DIVERGING, f"run.name={name}")
    assert result.code == 70, result.err
    assert result.err.splitlines()[-1].startswith("descent: training diverged: ")
    view = finished.workspace / "runs" / name
    assert "training diverged: " in (view / "unfinished/report.html").read_text()
    [told] = [
        one
        for one in json.loads((view / "run.json").read_text())["unfinished"]["train"]["health"]
        if one["what"] == "training_diverged"
    ]
    assert told["evidence"]["words"] == result.err.splitlines()[-1].removeprefix("descent: training diverged: ")
    assert "critical" in (view / "unfinished/report.html").read_text()
    assert ("still shows" in result.err) == has_result
    assert (view / "report.html").exists() == has_result
    assert shown(finished) == before
    if not has_result:
        assert (view / "metrics.jsonl").resolve().parent.parent.name == "checkpoints"


def test_a_failure_before_any_training_says_nothing_more_than_what_failed(finished: Project) -> None:
    before = shown(finished)
    for _ in range(2):
        result = finished.descent("run", "tiny.yaml", "ingest.sources.1.text_field=none")
        assert (result.code, "still shows" in result.err) == (65, False)
        assert shown(finished) == before
        assert not (finished.workspace / "runs/tiny/unfinished").exists()
        assert "\n  its folder still shows the result of " in finished.descent("status", "tiny.yaml").out


@pytest.mark.parametrize("is_interrupted", [True, False])
def test_a_run_that_ends_before_any_training_gets_a_report_of_what_it_did(
    finished: Project, is_interrupted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(context: StageContext) -> NoReturn:
        raise InterruptedUnsaved(signal.SIGINT) if is_interrupted else BadDataError("curate: nothing <is> left")

    before = shown(finished)
    monkeypatch.chdir(finished.folder)
    failing = tuple(replace(stage, run=ends) if stage.name == "curate" else stage for stage in STAGES_OF_ALL)
    with pytest.raises((InterruptedUnsaved, BadDataError)):
        runner.run(load_config(Path("tiny.yaml"), ["curate.test_fraction=0.2"]), Selection(failing))
    page = (finished.workspace / "runs/tiny/unfinished/report.html").read_text()
    assert "interrupted; nothing of the stage" in page if is_interrupted else "curate: nothing &lt;is&gt; left" in page
    assert '<th scope="row">normalize</th>' in page
    assert '<th scope="row">curate</th>' not in page
    assert "No metrics were recorded." in page
    assert shown(finished) == before


def test_results_that_another_took_the_place_of_are_found_again(finished: Project) -> None:
    view, key = finished.workspace / "runs/tiny", finished.artifact("train").name
    first, config = shown(finished), (view / "config.yaml").read_text()
    said = finished.descent("run", "tiny.yaml", SLOWER)
    [earlier] = (view / "earlier").iterdir()
    where = earlier.relative_to(finished.folder)
    told = rf"\d\.\d{{3}} bits per byte \(.*\) after 24 steps, (is )?in {re.escape(str(where))}\n"
    assert re.search(rf"run: the earlier result, {told}", said.err)
    assert re.search(rf"\n  earlier: {told}", finished.descent("status", "tiny.yaml").out)
    assert (earlier / "config.yaml").read_text() == config
    assert (earlier / "report.html").resolve() == first["report.html"]
    assert (earlier / "hparams").is_dir()
    assert f"tiny/earlier/{earlier.name}" in finished.descent("status", "tiny.yaml", "--all").out
    second = shown(finished)
    assert second["report.html"] != first["report.html"]

    # Another title is no other result; and what comes back is no earlier one any more.
    finished.run(SLOWER, "report.title=Other")
    assert [*(view / "earlier").iterdir()] == [earlier]
    finished.run()
    assert shown(finished) == first
    [other] = (view / "earlier").iterdir()
    assert other != earlier
    assert "learning_rate: 0.003" in (other / "config.yaml").read_text()

    # The sweep says whose it deletes, of artifacts and of the folder.
    listed = finished.descent("gc", "tiny.yaml").out
    assert re.search(
        rf"{other.name}  \(\d\.\d{{3}} bits per byte \(.*\) after 24 steps: an earlier result of run tiny\)", listed
    )
    assert listed.count("(of an earlier result of run tiny)") >= 3
    assert key not in listed.replace(f"checkpoints/{key}", "")
    assert finished.descent("gc", "tiny.yaml", "--delete").code == 0
    assert shown(finished) == first
    assert not [*(view / "earlier").iterdir()]
    assert finished.descent("gc", "tiny.yaml").out == "nothing is unused\n"


def test_what_fails_while_another_result_takes_the_place_leaves_the_last_one(
    finished: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.folder)
    before, place = shown(finished), finished.workspace / "runs/tiny/earlier"
    finished.run(SLOWER, "run.name=other")
    config = load_config(Path("tiny.yaml"), [SLOWER])

    def full(view: RunView, stage: Stage) -> None:
        raise disk_full(view.folder, "more bytes are")

    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(RunView, "_display", full)
            with pytest.raises(StorageError, match="full"):
                runner.run(config, select())
        assert shown(finished) == before
        assert finished.state()["shown"]["stages"]["train"]["key"] != finished.state()["stages"]["train"]["key"]
    assert runner.run(config, select()) is not None
    assert shown(finished)["report.html"] != before["report.html"]
    assert [(one / "report.html").resolve() for one in place.iterdir()] == [before["report.html"]]


def test_nothing_is_kept_or_swept_through_a_link_that_leads_out(finished: Project, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "2026-01-01_00-00-00").mkdir(parents=True)
    (finished.workspace / "runs/tiny/earlier").symlink_to(outside)
    for verb in ("run", "gc"):
        result = finished.descent(verb, "tiny.yaml")
        assert (result.code, len(result.err.splitlines())) == (74, 1)
        assert "runs/tiny/earlier: is a link out of the workspace" in result.err
    assert [path.name for path in outside.iterdir()] == ["2026-01-01_00-00-00"]


def test_a_result_whose_artifacts_are_gone_is_not_said_to_be_shown(finished: Project) -> None:
    finished.forget_from("train")
    process = finished.start("run", "tiny.yaml", *LONG, stderr=subprocess.DEVNULL)
    wait_until(lambda: [*finished.workspace.glob("checkpoints/*/step-*")], process)
    process.terminate()
    assert process.wait(PATIENCE_SECONDS) == 75
    assert "shown" not in finished.state()
    told = finished.descent("status", "tiny.yaml").out
    assert "still shows the result" not in told
    assert "its folder still shows training " in told, "of which it holds model/"
