from __future__ import annotations

import re
import sys
from operator import attrgetter
from types import SimpleNamespace
from typing import Any, get_args
from unittest.mock import MagicMock

import pytest
from accelerate import PartialState, tracking
from training.tiny import SECTION, context_for, make_inputs, metrics, outcome, run_train

from pipeline.errors import ConfigError
from pipeline.stages.train import STAGE
from pipeline.training.recording.trackers import RunLabel, Trackers, check_trackers, flattened
from pipeline.training.train_config import Tracker, TrainConfig


def test_the_names_are_those_of_accelerate():
    assert {*get_args(Tracker), "tensorboard"} == tracking.LOGGER_TYPE_TO_CLASS.keys()


def test_a_tracker_that_is_not_installed_is_refused_with_what_to_install():
    with pytest.raises(ConfigError, match=r"train\.log_with: not_there is not installed; pip install not-there"):
        check_trackers(["not_there"])


def test_nested_settings_become_flat():
    nested = {"a": {"b": 1, "c": [1, 2]}, "d": None, "e": "x", "f": True}
    assert flattened(nested) == {"a.b": 1, "a.c": "[1, 2]", "d": "null", "e": "x", "f": True}


def test_a_tracker_gets_the_configuration_and_every_record(tmp_path, monkeypatch):
    told: dict[str, Any] = {"lines": []}

    class Fake(tracking.GeneralTracker):
        name = "wandb"
        requires_logging_directory = False

        def __init__(self, project: str, **settings: Any) -> None:
            super().__init__(_blank=True)
            told.update(project=project, settings=settings)

        def start(self) -> None:
            told["started"] = True

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            told["config"] = values

        def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
            told["lines"].append({"step": step, **values})

        def finish(self) -> None:
            told["finished"] = True

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", Fake)
    run_train(make_inputs(tmp_path), tmp_path, log_with=["wandb"], max_steps=6)
    assert (told["project"], told["settings"]) == ("descent", {"name": "tiny", "id": "work", "resume": "allow"})
    assert told["started"]
    assert told["finished"]
    assert told["config"]["train.learning_rate"] == 0.01
    recorded = [line["step"] for line in metrics(tmp_path / "output")]
    assert [line["step"] for line in told["lines"]] == recorded == [0, 3, 6, 6]
    # The same numbers under the same tags as in TensorBoard, each once a step.
    shown = {
        tag: points
        for tag, points in outcome(tmp_path, "output")["tensorboard"].items()
        if isinstance(points[0][1], float)
    }
    assert "layers.1/self_attn.q_proj/grad_norm" in shown
    for tag, points in shown.items():
        given = [(line["step"], line[tag]) for line in told["lines"] if tag in line]
        assert given == [(step, pytest.approx(value, rel=1e-6)) for step, value in points]


WHERE = {
    "aim": ("Run", {"repo": ".", "experiment": "mine"}),
    "clearml": ("Task.init", {"project_name": "mine", "task_name": "tiny"}),
    "comet_ml": ("start", {"project_name": "mine"}),
    "dvclive": ("Live", {"dir": "dvclive/tiny", "exp_name": "tiny", "resume": False}),
    "mlflow": ("start_run", {"run_name": "tiny"}),
    "swanlab": ("init", {"project": "mine", "experiment_name": "tiny"}),
    "trackio": ("init", {"project": "mine", "name": "tiny", "resume": "never"}),
    "wandb": ("init", {"project": "mine", "name": "tiny", "id": "work"}),
}
"""The function of each package that begins a run, and what it is to be told of project and run."""


@pytest.mark.parametrize("name", get_args(Tracker))
def test_each_tracker_is_told_project_and_run_in_its_own_words(tmp_path, monkeypatch, name):
    """Through Accelerate's own classes, to the package."""
    package = MagicMock(__version__="3.58.0")
    package.Task.current_task.return_value = None
    package.search_experiments.return_value = []
    package.utils.validation = SimpleNamespace(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=100)
    monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setitem(sys.modules, f"{name}.plots", package.plots)
    section = TrainConfig(max_steps=1, log_with=[name], project="mine")
    PartialState()
    said: list[str] = []
    label = RunLabel("tiny", {"train": {"learning_rate": 0.1, "freeze": ["a"]}})
    trackers = Trackers(section, tmp_path / "work", label, False, said.append)
    trackers.log({"train/loss": 1.0}, 1)
    trackers.finish()
    assert said == []
    function, expected = WHERE[name]
    given = attrgetter(function)(package).call_args.kwargs
    assert given == given | expected
    if name == "aim":
        assert package.Run.return_value.name == "tiny"
    if name == "comet_ml":
        assert package.ExperimentConfig.call_args.kwargs == {"name": "tiny"}
        assert re.fullmatch("[0-9a-z]{32,50}", given["experiment_key"])
    if name == "mlflow":
        assert package.create_experiment.call_args.kwargs["name"] == "mine"


@pytest.mark.parametrize("place", ["__init__", "start", "store_init_configuration", "log", "finish"])
def test_a_tracker_that_raises_is_left_out_and_no_training_fails_for_it(tmp_path, monkeypatch, place):
    calls: dict[str, list[str]] = {"wandb": [], "mlflow": []}

    class Fake(tracking.GeneralTracker):
        name = "fake"
        requires_logging_directory = False

        def __init__(self, project: str, **settings: Any) -> None:
            super().__init__(_blank=True)
            self._owner = "wandb" if "id" in settings else "mlflow"
            self._note("__init__")

        def _note(self, called: str) -> None:
            calls[self._owner].append(called)
            if self._owner == "wandb" and called == place:
                raise ConnectionError("no route\nto host")

        def start(self) -> None:
            self._note("start")

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            self._note("store_init_configuration")

        def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
            self._note("log")

        def finish(self) -> None:
            self._note("finish")

    for name in calls:
        monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, name, Fake)
    section = TrainConfig(**{**SECTION, "log_with": ["wandb", "mlflow"], "max_steps": 6})
    context = context_for(section, make_inputs(tmp_path), tmp_path / "output", tmp_path / "work")
    assert STAGE.run(context)["steps"] == 6
    said = context.progress._stream.getvalue()
    assert said.count("test: warning: wandb of train.log_with is left out: no route to host\n") == 1
    assert calls["wandb"][-1] == place
    assert calls["wandb"].count(place) == 1
    assert calls["mlflow"] == ["__init__", "start", "store_init_configuration", *["log"] * 4, "finish"]
