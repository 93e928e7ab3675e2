"""Router losses in training: the same gradient for any split of the global batch, recorded losses and loads."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from training.tiny import LLAMA, make_inputs, make_tokenizer, run_train

from pipeline.errors import ConfigError
from pipeline.modeling.build import build_model, load_hf_tokenizer
from pipeline.modeling.expert_loads import balanced_mixture, expert_load_sums
from pipeline.modeling.heads import head_over_labels
from pipeline.modeling.model_config import ModelConfig
from pipeline.modeling.parameters import mixture_of
from pipeline.tasks import task_named
from pipeline.training.routing import Routing, load_ratio
from pipeline.training.train_config import TrainConfig

GROK1 = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    "num_local_experts": 4, "widening_factor": 2, "max_position_embeddings": 16,
}  # fmt: skip
MIXTRAL = {**LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2}
QWEN3_MOE = {**LLAMA, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
HEADS = {
    "classification": head_over_labels("single_label_classification", 3),
    "regression": head_over_labels("regression", 1),
}
MIXTURES = {"grok1": GROK1, "mixtral": MIXTRAL, "qwen3_moe": QWEN3_MOE}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(folder)
    return load_hf_tokenizer(folder)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Eight rows of very different lengths, padded on the right."""
    ids = torch.from_numpy(np.random.default_rng(0).integers(2, 64, (8, 17)))
    input_ids, labels = ids[:, :-1].clone(), ids[:, 1:].clone()
    for row, length in enumerate((16, 1, 3, 15, 16, 2, 9, 1)):
        input_ids[row, length:], labels[row, length:] = 0, -100
    return input_ids, labels


def gradient(model: Any, section: TrainConfig, rows: int) -> tuple[torch.Tensor, dict[str, float]]:
    """The gradient of the batch in parts of so many rows, and the recorded means a target token."""
    task = task_named("causal_lm")
    routing, (input_ids, labels) = Routing(section, task, model), batch()
    targets, sums = int((labels != -100).sum()), dict[str, float]()
    model.zero_grad()
    for at in range(0, 8, rows):
        part = {"labels": labels[at : at + rows]}
        output = model(input_ids=input_ids[at : at + rows], use_cache=False, **routing.inputs)
        total, parts = routing.add(task.loss_sums(output, part, section), output, part)
        (total / targets).backward()
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + float(value) / targets
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()]), sums


@pytest.mark.parametrize(
    ("architecture", "own", "given", "is_balanced"),
    [
        ("mixtral", 0.02, None, True),
        ("mixtral", 0.02, 0.0, False),
        ("mixtral", 0.0, 0.1, True),
        ("mixtral", 0.0, None, False),
        ("llama", None, None, False),
    ],
)
def test_verdicts_know_whether_a_loss_balances_the_experts(tmp_path, architecture, own, given, is_balanced):
    config = MIXTRAL if architecture == "mixtral" else LLAMA
    own_setting = {} if own is None else {"router_aux_loss_coef": own}
    inputs = make_inputs(tmp_path, architecture, {**config, **own_setting})
    summary = run_train(inputs, tmp_path, max_steps=2, router_aux_loss_coef=given)
    assert summary["facts"]["is_balanced"] is is_balanced


@pytest.mark.parametrize("architecture", MIXTURES)
def test_gradients_and_records_are_the_same_for_any_accumulation(tokenizer, architecture):
    model = build_model(ModelConfig(architecture=architecture, config=MIXTURES[architecture]), tokenizer, seed=1)
    section = TrainConfig(max_steps=1, router_aux_loss_coef=0.5, router_z_loss_coef=0.1)
    whole, records = gradient(model, section, 8)
    for rows in (4, 2, 1):
        found, others = gradient(model, section, rows)
        assert float((found - whole).norm() / whole.norm()) < 2e-6
        assert others == pytest.approx(records, rel=1e-5)
    off = TrainConfig(max_steps=1, router_aux_loss_coef=0.0, router_z_loss_coef=0.0)
    without, _ = gradient(model, off, 8)
    assert float((without - whole).norm() / whole.norm()) > 1e-2
    assert sum(records[f"expert_load/{expert}"] for expert in range(4)) == pytest.approx(1)
    assert 1 <= records["router_balance_loss"] < 4


def labelled_gradient(task: str, model: Any, section: TrainConfig, rows: int) -> tuple[torch.Tensor, dict[str, float]]:
    """As `gradient`, of sequences of very different lengths with one label each, the last of which has none."""
    routing, (input_ids, targets) = Routing(section, task_named(task), model), batch()
    mask, labels, sums = (targets != -100).long(), torch.tensor([0, 1, 2, 0, 1, 2, 0, -100]), dict[str, float]()
    if task == "regression":
        labels = torch.where(labels == -100, torch.nan, labels.float())
    model.zero_grad()
    for at in range(0, 8, rows):
        part = {"attention_mask": mask[at : at + rows], "labels": labels[at : at + rows]}
        output = model(
            input_ids=input_ids[at : at + rows],
            attention_mask=part["attention_mask"],
            use_cache=False,
            **routing.inputs,
        )
        total, parts = routing.add(task_named(task).loss_sums(output, part, section), output, part)
        (total / 7).backward()
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + float(value) / 7
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()]), sums


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("architecture", MIXTURES)
def test_a_head_over_labels_leaves_the_routers_their_losses(tokenizer, architecture, task):
    section = ModelConfig(architecture=architecture, config=MIXTURES[architecture], task=task)
    model = build_model(section, tokenizer, seed=1, head=HEADS[task])
    section = TrainConfig(max_steps=1, router_aux_loss_coef=0.5, router_z_loss_coef=0.1)
    whole, records = labelled_gradient(task, model, section, 8)
    for rows in (4, 1):
        found, others = labelled_gradient(task, model, section, rows)
        assert float((found - whole).norm() / whole.norm()) < 5e-6
        assert others == pytest.approx(records, rel=1e-5)
    off = TrainConfig(max_steps=1, router_aux_loss_coef=0.0, router_z_loss_coef=0.0)
    without, _ = labelled_gradient(task, model, off, 8)
    assert float((without - whole).norm()) > 1e-3 * float(whole.norm())
    assert sum(records[f"expert_load/{expert}"] for expert in range(4)) == pytest.approx(1)
    assert 1 <= records["router_balance_loss"] < 4


def test_open_coefficients_are_the_models_own(tokenizer):
    config = {**GROK1, "router_aux_loss_coef": 0.5, "router_z_loss_coef": 0.1}
    model = build_model(ModelConfig(architecture="grok1", config=config), tokenizer, seed=1)
    given = TrainConfig(max_steps=1, router_aux_loss_coef=0.5, router_z_loss_coef=0.1)
    assert torch.equal(gradient(model, TrainConfig(max_steps=1), 8)[0], gradient(model, given, 8)[0])


def test_a_coefficient_without_a_router_is_a_configuration_error(tokenizer):
    model = build_model(ModelConfig(config=LLAMA), tokenizer, seed=1)
    with pytest.raises(ConfigError, match=r"train\.router_z_loss_coef: llama has no router"):
        Routing(TrainConfig(max_steps=1, router_z_loss_coef=0.1), task_named("causal_lm"), model)
    assert Routing(TrainConfig(max_steps=1), task_named("causal_lm"), model).inputs == {}


def test_loads_count_choices_of_tokens_in_the_mask():
    layers = (torch.tensor([[3.0, 2, 1], [3, 1, 2], [0, 1, 2]]), torch.tensor([[0.0, 1, 2], [0, 1, 2], [9, 8, 0]]))
    load = expert_load_sums(layers, torch.tensor([[1, 1, 0]]), num_experts=3, top_k=2)
    assert load.tolist() == [2 / 4, 3 / 4, 3 / 4]
    assert load_ratio({"train/expert_load/0": 0.1, "train/expert_load/1": 0.4, "train/loss": 9.0}) == {
        "train/expert_load_ratio": 4.0
    }
    assert load_ratio({"train/loss": 1.0}) == {}


def test_training_records_them_and_gradient_checkpointing_changes_nothing(tmp_path):
    inputs = make_inputs(tmp_path, "grok1", GROK1)
    records = []
    for checkpointing in (False, True):
        folder = tmp_path / str(checkpointing)
        run_train(inputs, folder, gradient_checkpointing=checkpointing, max_steps=6)
        lines = (folder / "output" / "metrics.jsonl").read_text().splitlines()
        records.append([line for line in map(json.loads, lines) if "train/loss" in line][-1])
    inside = [tag for tag in records[0] if tag.startswith(("probe/", "attention/", "experts/"))]
    assert len([tag for tag in inside if tag.endswith("/out_grad_norm")]) > 4
    losses = ("train/router_balance_loss", "train/router_z_loss", "train/expert_load/3", "train/expert_load_ratio")
    for tag in (*losses, *inside):
        assert records[0][tag] == pytest.approx(records[1][tag], rel=1e-4)
    assert records[0]["train/expert_load_ratio"] >= 1


@pytest.mark.parametrize(
    ("architecture", "expected"), [("mixtral", (8, 2)), ("olmoe", (64, 8)), ("deepseek_v3", None), ("llama", None)]
)
def test_which_mixtures_are_balanced_by_a_loss(architecture, expected):
    from transformers import AutoConfig

    config = AutoConfig.for_model(architecture)
    assert balanced_mixture(config) == expected
    assert (mixture_of(config) is None) == (architecture == "llama")
