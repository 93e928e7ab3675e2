"""The `model:` section as a run's configuration has it: with what only tasks can check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationInfo, field_validator, model_validator

from pipeline.console.terminal_text import did_you_mean
from pipeline.features import name_of
from pipeline.known_names import is_known, known_names
from pipeline.modeling.model_config import DEFAULT_TASK, ModelConfig
from pipeline.pretrained.origin import OWN_ARCHITECTURES
from pipeline.tasks import TASKS, Task, task_named

if TYPE_CHECKING:
    TaskName = str
else:
    TaskName = name_of(TASKS, Task)


class TaskModelConfig(ModelConfig):
    """Task, architecture and size of the model: by `architecture`, by `preset`, or taken from `pretrained`."""

    task: TaskName = DEFAULT_TASK
    """What the model learns. `causal_lm`: predict the next token. `classification`: tell the label of a document, one
    of those in the training split. `regression`: tell the number that is a document's label. Sources then name where
    labels are (such as label_field). Or a class of your own by path, such as `./my_task.py:Mine`."""

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, name: str | None, info: ValidationInfo) -> str | None:
        is_causal = task_named(info.data.get("task", DEFAULT_TASK)).is_pretrained_whole
        models = "causal_lm" if is_causal else "sequence_classification"
        if name is not None and name not in OWN_ARCHITECTURES and not is_known(models, name):
            known = [*known_names(models), *OWN_ARCHITECTURES]
            hint = did_you_mean(name, known, otherwise="; for example llama, gpt2, qwen3, mixtral")
            kind = "causal language model" if is_causal else "sequence classification model"
            raise ValueError(f"got {name!r}, which is no {kind} of transformers{hint}")
        return name

    @model_validator(mode="after")
    def _head_can_be_quantized(self) -> Self:
        if self.quantization is not None and not task_named(self.task).is_pretrained_whole:
            raise ValueError(f"quantization is for causal_lm: the new head of a {self.task} would be rounded too")
        return self

    def check_fits(self, whole: Any) -> None:
        """The task finds what it needs, and a pretrained model keeps its tokenizer."""
        task_named(self.task).check(whole)
        super().check_fits(whole)
