from __future__ import annotations

import pytest
import torch
from training.tiny import GPT2, LLAMA, make_tokenizer

from pipeline.config.model import ModelConfig
from pipeline.config.train import TrainConfig
from pipeline.modeling.build import build_model, load_tokenizer
from pipeline.training.optimizers import build_optimizer, parameter_groups


@pytest.mark.parametrize(("architecture", "config"), [("llama", LLAMA), ("gpt2", GPT2)])
def test_norms_biases_and_embeddings_are_not_decayed(tmp_path, architecture, config):
    make_tokenizer(tmp_path)
    model = build_model(ModelConfig(architecture=architecture, config=config), load_tokenizer(tmp_path), seed=0)
    decayed, others = parameter_groups(model, 0.3)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    marks = ("norm", "ln_", "bias", "embed", "wte", "wpe")
    plain = [name for name in names.values() if any(mark in name for mark in marks)]
    assert sorted(names[id(parameter)] for parameter in others["params"]) == sorted(plain)
    assert len(decayed["params"]) + len(others["params"]) == len(names)


def test_sgd_with_momentum_takes_its_settings():
    model = torch.nn.Linear(2, 2)
    section = TrainConfig(max_steps=1, optim="sgd", momentum=0.7, weight_decay=0.2)
    optimizer = build_optimizer(section, model)
    assert isinstance(optimizer, torch.optim.SGD)
    assert [(group["momentum"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.7, 0.2), (0.7, 0.0)]
