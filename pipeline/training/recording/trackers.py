"""Trackers beside TensorBoard, by Accelerate's names for them. They get records; no training fails for one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.training.train_config import TrainConfig


@dataclass(frozen=True)
class RunLabel:
    """What a training is called in its records: the name of the run and all of its settings. No result depends on it,
    since several runs may share one training."""

    name: str
    settings: Mapping[str, Any]


def check_trackers(names: Sequence[str]) -> None:
    """Raises ConfigError for a tracker whose package is not installed. Imports nothing heavy."""
    for name in names:
        if find_spec(name) is None:
            package = name.replace("_", "-")
            raise ConfigError(f"train.log_with: {name} is not installed; pip install {package}, or remove it")


class Trackers:
    """The trackers of `train.log_with`, each told the run's name and settings as it wants them. One that raises is
    warned of and left out from then on."""

    def __init__(
        self, config: TrainConfig, work: Path, label: RunLabel, is_resumed: bool, say: Callable[[str], None]
    ) -> None:
        self._say = say
        self._trackers: dict[str, Any] = {}
        for name in config.log_with:
            self._do(name, partial(self._start, name, config.project, label, work.name, is_resumed))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Record values of a step."""
        for name, tracker in list(self._trackers.items()):
            self._do(name, partial(tracker.log, dict(values), step=step))

    def finish(self) -> None:
        """Let each write what it has not written yet."""
        for name, tracker in list(self._trackers.items()):
            self._do(name, tracker.finish)

    def _start(self, name: str, project: str, label: RunLabel, key: str, is_resumed: bool) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        kind: Any = LOGGER_TYPE_TO_CLASS[name]
        first, options = arguments_of(name, project, label.name, key, is_resumed)
        tracker = kind(first, **options)
        tracker.start()
        tracker.store_init_configuration(flattened(label.settings))
        self._trackers[name] = tracker

    def _do(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._trackers.pop(name, None)
            reason = " ".join(str(error).split()) or type(error).__name__
            self._say(f"warning: {name} of train.log_with is left out: {reason}")


def arguments_of(name: str, project: str, run: str, key: str, is_resumed: bool) -> tuple[str, dict[str, Any]]:
    """What Accelerate's class for a tracker takes first, and what it hands on to the tracker, so that both the project
    and the run are called as they are here.

    A resumed training, of the same `key`, goes on with its run where the tracker knows runs by a name or by an id that
    we can choose; aim, clearml, mlflow and swanlab begin another of the same name.
    """
    match name:
        case "aim":
            return run, {"logging_dir": ".", "experiment": project}
        case "clearml":
            return project, {"task_name": run}
        case "comet_ml":
            from comet_ml import ExperimentConfig

            # 32 letters and digits are the fewest that it takes.
            return project, {
                "experiment_config": ExperimentConfig(name=run),
                "experiment_key": hashlib.sha256(key.encode()).hexdigest()[:32],
            }
        case "dvclive":
            folder = f"dvclive/{run}"
            return project, {
                "dir": folder,
                "dvcyaml": f"{folder}/dvc.yaml",
                "exp_name": run,
                "resume": is_resumed,
            }
        case "mlflow":
            return project, {"run_name": run}
        case "swanlab":
            return project, {"experiment_name": run}
        case "trackio":
            return project, {"name": run, "resume": "allow" if is_resumed else "never"}
        case _:
            return project, {"name": run, "id": key, "resume": "allow"}


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Nested settings under dotted names; lists and null as JSON text."""
    flat: dict[str, str | int | float | bool] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, (str, int, float)) else json.dumps(value)
    return flat
