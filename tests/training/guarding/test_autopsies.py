"""However a training computes, a gradient that breaks in its backward pass is put on the module where it broke."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torch.nn import functional
from training.guarding.test_nonfinite_trace import Breaks
from training.tiny import GPT2, in_processes, make_inputs, run_train

from pipeline.errors import DivergedError
from pipeline.training import build_state

BROKEN = {
    "transformer.h.1.ln_1": "the backward pass of transformer.h.1.ln_1 (LayerNorm)",
    "transformer.h.0.attn": "the backward pass of transformer.h.0.attn (GPT2Attention)",
    "transformer.h.1.mlp": "the backward pass of transformer.h.1.mlp (GPT2MLP)",
    "lm_head": "the backward pass of lm_head (Linear)",
    "transformer.wte": "the gradient of transformer.wte.weight (Parameter)",
}
WAYS: dict[str, tuple[int, dict[str, Any]]] = {
    "in micro-batches": (1, {}),
    "recomputed": (1, {"gradient_checkpointing": True}),
    "compiled": (1, {"torch_compile": True}),
    "in two processes": (2, {"gradient_checkpointing": True}),
}
CASES = [
    ("recomputed", "transformer.h.1.ln_1"), ("in two processes", "transformer.h.0.attn"),
    ("in micro-batches", "transformer.h.1.mlp"), ("in micro-batches", "lm_head"), ("compiled", "transformer.h.1.ln_1"),
    ("compiled", "transformer.h.1.mlp"), ("recomputed", "transformer.wte"),
    ("in two processes", "transformer.h.1.ln_1"),
]  # fmt: skip


def train_broken(index: int, inputs: dict[str, Path], folder: Path, count: int, name: str, changes: Any) -> None:
    """In two processes it breaks in the second."""
    prepare_layers, compiled = build_state.prepare_layers, nn.Module.compile
    nn.Module.compile = lambda module, **given: compiled(module, **given, backend="aot_eager")

    def prepare(config: Any, model: Any) -> None:
        module = model.get_submodule(name)
        forward = module.forward
        if isinstance(module, nn.Embedding):
            module.forward = lambda ids: functional.embedding(ids, Breaks.apply(module.weight))
        else:
            module.forward = lambda tensor, *others, **named: forward(Breaks.apply(tensor), *others, **named)
        prepare_layers(config, model)

    if index == count - 1:
        build_state.prepare_layers = prepare
    try:
        run_train(inputs, folder, f"output{index}", index, count, max_steps=3, **changes)
    except DivergedError as error:
        (folder / f"error{index}.txt").write_text(str(error))
        os._exit(error.exit_code)


def train_cut(*arguments: Any) -> None:
    os.environ.update({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"})
    train_broken(*arguments)


@pytest.mark.parametrize(
    ("way", "name"), [*CASES[:2], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[2:])]
)
def test_a_gradient_that_breaks_is_put_on_its_module(tmp_path, way, name):
    count, changes = WAYS[way]
    inputs = make_inputs(tmp_path / "inputs", "gpt2", GPT2)
    assert in_processes(count, train_broken, inputs, tmp_path, count, name, changes) == [70] * count
    for index in range(count):
        told = (tmp_path / f"error{index}.txt").read_text()
        assert "the gradient's norm is nan at step 1" in told
        assert f"first in {BROKEN[name]}" in told
        assert ("in process 1" in told) == (count == 2)


@pytest.mark.slow
def test_of_a_model_in_parts_only_the_forward_pass_is_looked_into_and_that_is_said(tmp_path):
    inputs = make_inputs(tmp_path / "inputs", "gpt2", GPT2)
    assert in_processes(2, train_cut, inputs, tmp_path, 2, "transformer.h.1.mlp", {}) == [70, 70]
    told = (tmp_path / "error0.txt").read_text()
    assert "run again, its forward pass is finite: the backward pass of a model in parts is not looked into" in told
    assert "hardware" not in told
