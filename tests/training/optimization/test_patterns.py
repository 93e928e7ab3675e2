"""Regular expressions of a configuration: searched for in names as Python does, but never without end."""

from __future__ import annotations

import re

import pytest
import torch
from yardsticks import assert_costs_at_most, cpu_of, importing

from pipeline.errors import ConfigError
from pipeline.training.optimization.name_patterns import Finder
from pipeline.training.optimization.parameter_groups import parameter_groups
from pipeline.training.optimization.sparsity import freeze
from pipeline.training.train_config import TrainConfig

NAMES = [
    "model.embed_tokens.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.11.post_attention_layernorm.weight",
    "lm_head.weight",
]
ENDLESS = r"^(?:\w|\w\w|\.)+(?<!t)$"
"""Each way to cut a name into ones and twos is tried: as many as a Fibonacci number."""


@pytest.mark.parametrize(
    "pattern", ["embed", r"layers\.0\.", r"^lm_", r"(q|k|v)_proj", r"layers\.(\d+)\.(?!self)", "x"]
)
def test_it_finds_what_python_finds(pattern):
    assert [Finder("x", pattern).finds(name) for name in NAMES] == [bool(re.search(pattern, name)) for name in NAMES]


def model():
    modules = {name.removesuffix(".weight").replace(".", "_"): torch.nn.Linear(2, 2, bias=False) for name in NAMES}
    return torch.nn.ModuleDict(modules)


USES = {
    r"train\.freeze\.1: ": lambda: freeze(model(), ["lm_head", ENDLESS]),
    r"train\.parameter_groups\.0\.pattern: ": lambda: parameter_groups(
        TrainConfig.model_validate({"max_steps": 1, "parameter_groups": [{"pattern": ENDLESS, "weight_decay": 0.0}]}),
        model(),
    ),
}


@pytest.mark.parametrize("setting", USES)
def test_one_that_backtracks_without_end_is_refused(setting):
    def refused():
        with pytest.raises(ConfigError, match=rf"{setting}.* takes far too long to search for in model_layers"):
            USES[setting]()

    assert_costs_at_most(4, lambda: cpu_of(refused), importing)


def test_what_is_no_regular_expression_there_is_said():
    with pytest.raises(ConfigError, match=r"train\.freeze\.0: .* is not a regular expression"):
        Finder("train.freeze.0", "(")
