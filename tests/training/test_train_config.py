from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.training.train_config import TrainConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "exactly one of max_steps, num_train_epochs and max_tokens"),
        ({"max_steps": 1, "num_train_epochs": 1}, "max_steps and num_train_epochs are both given"),
        ({"max_steps": 5, "warmup_steps": 6}, "warmup_steps 6 is more than max_steps 5"),
        ({"max_steps": 5, "global_batch_size": 8, "per_device_train_batch_size": 3}, "is not a multiple of"),
        ({"max_steps": 5, "logging_steps": 10, "telemetry_steps": 15}, "is not a multiple of"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        TrainConfig(**values)


def test_runtime_fields_are_outside_identity():
    section = TrainConfig(max_steps=5)
    changed = section.model_copy(
        update={"per_device_train_batch_size": 1, "logging_steps": 3, "save_steps": 7, "eval_batches": 2}
    )
    assert changed.identity() == section.identity()
    assert section.model_copy(update={"learning_rate": 0.5}).identity() != section.identity()
