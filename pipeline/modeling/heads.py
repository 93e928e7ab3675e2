"""What a model ends in: a head over the vocabulary, or one over labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from pipeline.modeling import grok1 as grok1  # known to the Auto classes from here on

Task = Literal["causal_lm", "classification", "regression"]


@dataclass(frozen=True)
class Head:
    """The task's class of models in transformers, and what it adds to their configuration.

    `is_pretrained` says that a pretrained checkpoint must bring the head; one over labels starts anew.
    """

    auto_class: Any
    is_pretrained: bool
    config_values: dict[str, Any] = field(default_factory=dict)


CAUSAL_LM = Head(AutoModelForCausalLM, is_pretrained=True)


def head_of(task: Task, num_labels: int = 1) -> Head:
    """The head of a task: `num_labels` classes, or numbers to predict."""
    if task == "causal_lm":
        return CAUSAL_LM
    problem = "regression" if task == "regression" else "single_label_classification"
    values = {"num_labels": num_labels, "problem_type": problem}
    return Head(AutoModelForSequenceClassification, is_pretrained=False, config_values=values)
