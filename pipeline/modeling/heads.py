"""What a model ends in: a head over the vocabulary, or one over labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedConfig

from pipeline.modeling.grok1 import register_grok1
from pipeline.modeling.loading_code import auto_class_of

register_grok1()  # before a head is looked up in an Auto class


@dataclass(frozen=True)
class Head:
    """The task's class of models in transformers, and what it adds to their configuration.

    `is_pretrained` says that a pretrained checkpoint must bring the head; one over labels starts anew.
    """

    auto_class: Any
    is_pretrained: bool
    config_values: dict[str, Any] = field(default_factory=dict)


CAUSAL_LM = Head(AutoModelForCausalLM, is_pretrained=True)


def head_over_labels(problem_type: str, num_labels: int, classes: Sequence[str] | None = None) -> Head:
    """A head with an output for each label, in transformers' `problem_type`: for each of `classes`, in their order,
    where their names are known."""
    values: dict[str, Any] = {"num_labels": num_labels, "problem_type": problem_type}
    if classes is not None:
        values["num_labels"] = len(classes)
        values["id2label"] = dict(enumerate(classes))
        values["label2id"] = {name: number for number, name in enumerate(classes)}
    return Head(AutoModelForSequenceClassification, is_pretrained=False, config_values=values)


def has_head_over_labels(config: PreTrainedConfig) -> bool:
    """Whether a model's configuration was made for such a head."""
    return getattr(config, "problem_type", None) in ("regression", "single_label_classification")


def head_in(folder: Path) -> Head:
    """The head of the model in a Hugging Face folder."""
    scores = auto_class_of(json.loads((folder / "config.json").read_bytes())) == "AutoModelForSequenceClassification"
    return Head(AutoModelForSequenceClassification, is_pretrained=True) if scores else CAUSAL_LM
