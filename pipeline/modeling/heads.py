"""What a model ends in: a head over the vocabulary, or one over labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedConfig

from pipeline.modeling import grok1 as grok1  # known to the Auto classes from here on
from pipeline.modeling.model_config import Task as Task


@dataclass(frozen=True)
class Head:
    """The task's class of models in transformers, and what it adds to their configuration.

    `is_pretrained` says that a pretrained checkpoint must bring the head; one over labels starts anew.
    """

    auto_class: Any
    is_pretrained: bool
    config_values: dict[str, Any] = field(default_factory=dict)


CAUSAL_LM = Head(AutoModelForCausalLM, is_pretrained=True)


def head_of(task: Task, num_labels: int | None = None, classes: Sequence[str] | None = None) -> Head:
    """The head of a task: `num_labels` classes, or numbers to predict; or classes of these names, in their order.

    Null stands for the fewest: the classes are not known before pack has found them.
    """
    if task == "causal_lm":
        return CAUSAL_LM
    problem = "regression" if task == "regression" else "single_label_classification"
    fewest = 1 if task == "regression" else 2
    values: dict[str, Any] = {"num_labels": num_labels or fewest, "problem_type": problem}
    if classes is not None:
        values["num_labels"] = len(classes)
        values["id2label"] = dict(enumerate(classes))
        values["label2id"] = {name: number for number, name in enumerate(classes)}
    return Head(AutoModelForSequenceClassification, is_pretrained=False, config_values=values)


def task_of(config: PreTrainedConfig) -> Task:
    """The task of a model's configuration, as `head_of` set it."""
    problem = getattr(config, "problem_type", None)
    return {"regression": "regression", "single_label_classification": "classification"}.get(problem or "", "causal_lm")  # type: ignore[return-value]


def head_in(folder: Path) -> Head:
    """The head of the model in a Hugging Face folder."""
    values = json.loads((folder / "config.json").read_bytes())
    if any(str(name).endswith("ForSequenceClassification") for name in values.get("architectures") or ()):
        return Head(AutoModelForSequenceClassification, is_pretrained=True)
    return CAUSAL_LM
