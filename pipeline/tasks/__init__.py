"""Tasks: what a model learns. A new one is a file here and a line in TASKS."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, MissingInputError
from pipeline.features import own_class
from pipeline.tasks.base_task import Split, Task
from pipeline.tasks.causal_lm import CausalLm
from pipeline.tasks.classification import Classification
from pipeline.tasks.regression import Regression
from pipeline.tasks.task_words import TaskWords

TASKS = (CausalLm, Classification, Regression)

__all__ = ["TASKS", "Split", "Task", "TaskWords"]


def task_named(name: str) -> Task:
    """The task that `model.task` names: one of TASKS, or a class of the user's own by path.

    Raises ConfigError when there is none.
    """
    known = {kind.model_fields["type"].default: kind for kind in TASKS}
    try:
        kind = known.get(name) or own_class(name, Task)  # type: ignore[type-abstract]
    except ValueError as error:
        raise ConfigError(f"model.task: {error}") from None
    return kind.model_validate({"type": name})


def task_packed_by(strategy: str) -> Task:
    """The task whose `pack.strategy` this is."""
    return next((task for task in (kind() for kind in TASKS) if task.strategy == strategy), None) or task_named(
        strategy
    )


def task_of_split(pack_folder: Path, split: str) -> Task:
    """The task for which a split was packed. Raises MissingInputError when an artifact of pack has no such split."""
    path = pack_folder / split / "pack.json"
    if not path.is_file():
        raise MissingInputError(f"{pack_folder} has no {split} split")
    return task_packed_by(json.loads(path.read_bytes())["strategy"])


def main_metric(evaluation: Mapping[str, Any]) -> str:
    """The figure by which a model is judged, from its evaluation."""
    return task_named(evaluation["task"]).words_for(evaluation).main.key
