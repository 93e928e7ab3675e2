"""Trackers beside TensorBoard, by Accelerate's names for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError

PROJECT = "descent"


def check_trackers(names: Sequence[str]) -> None:
    """Raises ConfigError for a tracker whose package is not installed. Imports nothing heavy."""
    for name in names:
        if find_spec(name) is None:
            package = name.replace("_", "-")
            raise ConfigError(f"train.log_with: {name} is not installed; pip install {package}, or remove it")


def start_trackers(names: Sequence[str], work: Path, config: Mapping[str, Any]) -> list[Any]:
    """Accelerate's trackers of these names, started and told the configuration, flattened as they want it.

    A resumed training goes on with the same run where the service can do so (wandb), else it begins another.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    trackers = []
    for name in names:
        kind: Any = LOGGER_TYPE_TO_CLASS[name]
        resumed = {"id": work.name, "resume": "allow"} if name == "wandb" else {}
        where = {"logging_dir": str(work / name)} if kind.requires_logging_directory else {}
        tracker = kind(PROJECT, **where, **resumed)
        tracker.start()
        tracker.store_init_configuration(flattened(config))
        trackers.append(tracker)
    return trackers


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Nested settings under dotted names; lists and null as JSON text."""
    flat: dict[str, str | int | float | bool] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, (str, int, float)) else json.dumps(value)
    return flat
