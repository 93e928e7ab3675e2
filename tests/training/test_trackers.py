from __future__ import annotations

from typing import Any, get_args

import pytest
from accelerate import tracking
from training.tiny import make_inputs, metrics, run_train

from pipeline.config.train import Tracker
from pipeline.errors import ConfigError
from pipeline.training.trackers import check_trackers, flattened


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
    assert (told["project"], told["settings"]) == ("descent", {"id": "work", "resume": "allow"})
    assert told["started"]
    assert told["finished"]
    assert told["config"]["learning_rate"] == 0.01
    recorded = [line["step"] for line in metrics(tmp_path / "output")]
    assert [line["step"] for line in told["lines"]] == recorded == [3, 6, 6]
