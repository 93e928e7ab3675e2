"""Experts of mixtures compute in autocast's precision, and learn in that of their weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from modeling.checkpoints import SHAPE
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

import pipeline.modeling.grok1  # noqa: F401 (makes it known to transformers)
from pipeline.modeling.experts import cast_experts

MIXTURES: dict[str, dict[str, Any]] = {
    "mixtral": {**SHAPE, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {**SHAPE, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8},
    "grok1": {**SHAPE, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8},
}
IDS = torch.arange(3, 35).view(2, 16)


class GroupedProducts(TorchDispatchMode):
    """Notes the precisions of grouped products."""

    def __init__(self) -> None:
        super().__init__()
        self.precisions: set[torch.dtype] = set()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        if "grouped_mm" in str(function):
            self.precisions |= {given.dtype for given in arguments if given is not None and given.is_floating_point()}
        return function(*arguments, **(keywords or {}))


def mixture(name: str) -> PreTrainedModel:
    torch.manual_seed(1)
    config = AutoConfig.for_model(name, vocab_size=64, **MIXTURES[name])
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    cast_experts(model)
    return model


def gradients(model: PreTrainedModel, is_mixed: bool) -> dict[str, torch.Tensor]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
        model(IDS, labels=IDS).loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("name", MIXTURES)
def test_experts_take_part_in_autocast(name: str) -> None:
    model = mixture(name)
    exact = gradients(model, False)
    with GroupedProducts() as seen:
        mixed = gradients(model, True)
    assert seen.precisions == {torch.bfloat16}
    assert exact.keys() == mixed.keys() == dict(model.named_parameters()).keys()
    for key, gradient in mixed.items():
        assert gradient.dtype == torch.float32
        # Rounding may send a token elsewhere.
        assert torch.cosine_similarity(gradient.flatten(), exact[key].flatten(), dim=0) > 0.95, key
    assert torch.equal(gradients(model, False)[key], exact[key])
