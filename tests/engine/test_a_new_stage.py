"""A stage is a file and a line in STAGES: here a twelfth one, which plan, run, status, report and diff know by its
declaration alone."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from harness import STAGES, Project, read_run_settings

import pipeline
from pipeline import atomic, stages
from pipeline.comparison.run_comparison import compare_runs
from pipeline.config import config_class
from pipeline.config.loading import load_config
from pipeline.engine import maintenance
from pipeline.engine.artifacts import Workspace
from pipeline.engine.checkpointing_stage import Checkpointing
from pipeline.engine.plan import Selection, plan
from pipeline.engine.runner import run
from pipeline.engine.stage import RunFolder, Stage, StageContext, Stages, in_order
from pipeline.engine.status import format_status
from pipeline.errors import BadDataError
from pipeline.progress import Progress
from pipeline.section import Section
from pipeline.stages import report
from pipeline.verbs.command_options import selection_of

PARTS = 4


class CountConfig(Section):
    """What is counted."""

    letter: str = "e"
    """The letter."""


class Counter:
    """The work of a stage that saves each of its parts, and that can be made to fail in the middle."""

    def __init__(self) -> None:
        self.fails_at: int | None = None
        self.counted: list[int] = []

    def run(self, context: StageContext[CountConfig]) -> dict[str, Any]:
        from pipeline.corpus.document_shards import read_texts

        assert context.work is not None
        texts = list(read_texts(context.inputs["curate"] / "test"))
        (context.work / "log.txt").write_text("counting\n")
        for part in range(len(saved(context.work)), PARTS):
            if part == self.fails_at:
                raise BadDataError("count: not that far")
            self.counted.append(part)
            found = sum(text.count(context.config.letter) for text in texts[part::PARTS])
            atomic.write_json(context.work / f"part-{part}.json", found)
        total = sum(json.loads(path.read_text()) for path in saved(context.work))
        atomic.write_json(context.output / "count.json", total)
        (context.output / "log.txt").write_text("counted\n")
        return {"total": total, "dropped": {"others": 3}, "warnings": ["letters are not words"]}


def tally(context: StageContext) -> dict[str, Any]:
    (context.output / "tally.txt").write_bytes((context.inputs["count"] / "count.json").read_bytes())
    return {}


def saved(work: Path) -> list[Path]:
    return sorted(work.glob("part-*.json"))


def set_aside(checkpoint: Path) -> Path:
    return checkpoint.rename(checkpoint.with_name("broken"))


def stage_of(counter: Counter) -> Stage:
    return Stage(
        name="count",
        version=1,
        config=CountConfig,
        run=counter.run,
        inputs=("curate/test",),
        records=("log.txt",),
        checkpointing=Checkpointing(
            list_checkpoints=saved,
            describe=lambda checkpoint: f"part {checkpoint.stem[-1]}",
            problem_of=lambda checkpoint: None if checkpoint.read_text().strip().isdecimal() else "no number",
            set_aside=set_aside,
        ),
        noun="counting",
        summary_in_progress=lambda work: {"counted": len(saved(work))},
        summary_line=lambda summary: f"{summary['total']} letters",
        run_folder=RunFolder(links=("log.txt",), copies={"count.json": "letters/count.json"}),
    )


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def twelve(counter: Counter) -> tuple[Stage, ...]:
    return in_order(*stages.STAGES[:-1], stage_of(counter), report.STAGE)


def config_of(twelve: Stages, name: str = "tiny", letter: str = "e") -> Any:
    values = load_config(Path("tiny.yaml"), [f"run.name={name}"]).model_dump(exclude_unset=True)
    return config_class(twelve).model_validate({**values, "count": {"letter": letter}})


def actions(config: Any, twelve: tuple[Stage, ...]) -> dict[str, str]:
    return {step.stage.name: step.action for step in plan(config, Selection(twelve))}


def test_a_twelfth_stage_is_known_everywhere(
    finished: Project,
    twelve: tuple[Stage, ...],
    counter: Counter,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(finished.folder)
    reused = dict.fromkeys(STAGES[:-1], "reuse")
    assert actions(config_of(twelve), twelve) == {**reused, "count": "run", "report": "unknown"}
    view = run(config_of(twelve), Selection(twelve))
    assert view is not None
    assert "count: done in" in (told := capsys.readouterr().err)
    assert " letters)\n" in told
    texts = (finished.workspace / "artifacts/count").glob("*/count.json")
    state = finished.state()["stages"]
    built = [stage for stage, entry in state.items() if entry["outcome"] == "built"]
    assert (list(state), built) == ([*STAGES[:-1], "count", "report"], ["count", "report"])
    assert actions(config_of(twelve), twelve) == {**reused, "count": "reuse", "report": "reuse"}

    # Another letter is counted, and reported of, alone: the training has nothing to do with it.
    other = config_of(twelve, "other", "a")
    assert actions(other, twelve) == {**reused, "count": "run", "report": "unknown"}
    assert run(other, Selection(twelve)) is not None
    assert len({path.read_text() for path in texts}) == 2

    # The folder of a run shows what the stage says that it shows.
    folder = finished.workspace / "runs/other"
    assert (folder / "log.txt").read_text() == "counted\n"
    assert (folder / "letters/count.json").read_bytes() == (
        view_of(finished, "other", "count") / "count.json"
    ).read_bytes()
    page = (folder / "report.html").read_text()
    assert ">count</text>" in page
    assert "from curate" in page
    assert "letters are not words" in page
    assert "count.letter" in page

    workspace = Workspace(Path("workspace"), twelve)
    status = format_status(workspace, read_run_settings)
    assert [line.split()[:2] for line in status.splitlines() if line.startswith("count ")] == [["count", "2"]]
    assert 'count.letter="a"' in status
    found = compare_runs(workspace, ("tiny", "other"))
    rows = {row["stage"]: row for row in found["stages"]}
    assert rows["count"]["relation"] == "differs"
    assert rows["count"]["reasons"][1] == ['count.letter "e" -> "a"']
    assert rows["train"]["relation"] == "shared"
    assert found["data"]["left_out"]["count: others"] == [3, 3]
    assert [row["key"] for row in found["configuration"]] == ["count.letter"]
    assert found["runs"][0]["last_stage"] == "report"


def view_of(project: Project, run_name: str, stage: str) -> Path:
    state = json.loads((project.workspace / "runs" / run_name / "run.json").read_text())
    return project.workspace / "artifacts" / stage / state["stages"][stage]["key"]


def test_it_goes_on_where_it_failed_and_its_checkpoints_are_cared_for(
    finished: Project, twelve: tuple[Stage, ...], counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a stage without settings, which needs its artifact, is a stage as well."""
    monkeypatch.chdir(finished.folder)
    twelve = in_order(*twelve[:-1], Stage("tally", 1, run=tally, inputs=("count",)), report.STAGE)
    counter.fails_at = 2
    with pytest.raises(BadDataError, match="not that far"):
        run(config_of(twelve), Selection(twelve))
    assert finished.state()["unfinished"] == {"count": {"counted": 2}}
    step = next(step for step in plan(config_of(twelve), Selection(twelve)) if step.stage.name == "count")
    assert step.action == "resume (part 1)"
    workspace = Workspace(Path("workspace"), twelve)
    assert step.key is not None
    work = workspace.checkpoints(step.key)
    assert work not in {item.folder for item in maintenance.find_unused(workspace)}
    (work / "part-1.json").write_text("damaged")
    [line] = maintenance.verify(workspace, Progress("verify"))
    assert line == f"the checkpoint {work / 'part-1.json'} is broken (no number): moved to {work / 'broken'}"
    counter.fails_at = None
    assert run(config_of(twelve), Selection(twelve)) is not None
    assert counter.counted == [0, 1, 1, 2, 3]
    assert finished.state()["stages"]["tally"]["outcome"] == "built"
    assert set(actions(config_of(twelve), twelve).values()) == {"reuse"}
    told = {item.folder: item.reason for item in maintenance.find_unused(workspace)}
    assert told[work] == "its counting is complete: only a longer one could go on from it"


def test_commands_select_it(twelve: tuple[Stage, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(typer.BadParameter, match="unknown stage 'count'"):
        selection_of(first="count")
    monkeypatch.setattr(stages, "STAGES", twelve)
    assert [stage.name for stage in selection_of(first="count").stages()] == ["count", "report"]
    assert "count" in selection_of(only="report").sections()
    with pytest.raises(typer.BadParameter, match="did you mean count"):
        selection_of(first="coutn")


def test_the_order_is_one_in_which_inputs_come_first(counter: Counter) -> None:
    assert stages.STAGES[-1].inputs == STAGES[:-1]
    with pytest.raises(ValueError, match="count: its input curate does not come before it"):
        in_order(stages.STAGES[0], stage_of(counter))


ALLOWED = {"__version__", "atomic", "console", "engine", "errors", "features", "integrity", "machine", "progress"}
ALLOWED |= {"executors", "section"}


def test_the_engine_imports_nothing_but_what_everybody_uses() -> None:
    """The contract in pyproject.toml forbids the packages that there are, this test those to come as well."""
    for path in (Path(pipeline.__file__).parent / "engine").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pipeline":
                found = {f"{node.module}.{alias.name}".split(".")[1] for alias in node.names}
                assert found <= ALLOWED, path
