"""Settings are unusual far from where others put them, by the keys under which they are to be found."""

from __future__ import annotations

import pytest
from transformers import GPT2Config, LlamaConfig, MixtralConfig

from pipeline.training.recording.health_facts import unusual_settings
from pipeline.training.train_config import TrainConfig


@pytest.mark.parametrize(
    ("config", "settings", "expected"),
    [
        (GPT2Config(), {"adam_epsilon": 1e-5, "label_smoothing_factor": 0.1}, {}),
        (GPT2Config(), {"adam_epsilon": 1.0}, {"train.adam_epsilon": 1.0}),
        (GPT2Config(), {"adam_epsilon": 1.0, "optim": "sgd"}, {}),
        (GPT2Config(attn_pdrop=0.9, resid_pdrop=0.5), {}, {"model.config.attn_pdrop": 0.9}),
        (LlamaConfig(attention_dropout=0.7), {}, {"model.config.attention_dropout": 0.7}),
        (LlamaConfig(), {"label_smoothing_factor": 0.9}, {"train.label_smoothing_factor": 0.9}),
        (MixtralConfig(), {"router_aux_loss_coef": 100.0}, {"train.router_aux_loss_coef": 100.0}),
        (
            MixtralConfig(router_aux_loss_coef=9.0, output_router_logits=True),
            {},
            {"model.config.router_aux_loss_coef": 9.0},
        ),
        (MixtralConfig(), {"router_aux_loss_coef": 0.02}, {}),
        (LlamaConfig(), {"router_aux_loss_coef": 100.0}, {}),
    ],
)
def test_settings_far_from_usual_are_found(config, settings, expected):
    assert unusual_settings(TrainConfig(max_steps=1, **settings), config) == expected
