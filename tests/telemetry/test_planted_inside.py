"""Faults inside of models, named with their layers before a tenth of the training is over."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from telemetry.test_model_probe import LENGTH, Rows, loss_sums
from telemetry.test_planted_faults import first_step, ordered, trained
from torch import nn
from training.tiny import LLAMA, VOCAB_SIZE
from transformers import PretrainedConfig

from pipeline.distributed.collectives import ALONE
from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.model_probe import ModelProbe
from pipeline.telemetry.panel import HealthPanel
from pipeline.telemetry.transfer import to_host
from pipeline.training import build_state

STEPS = 60
DEEP = {**LLAMA, "num_hidden_layers": 4}
WIDE_BATCH = {"global_batch_size": 64, "per_device_train_batch_size": 64}
"""So that the probe sees enough tokens to tell dead units from rare ones."""

RELU = {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 16, "activation_function": "relu"}
MIXTURE = {**DEEP, "num_hidden_layers": 3, "num_local_experts": 4, "num_experts_per_tok": 1}
POST_NORM = {"n_embd": 16, "n_layer": 24, "n_head": 2, "n_positions": 16}


def kill_units(model: Any) -> None:
    model.transformer.h[1].mlp.c_fc.bias[:40] = -100  # of 64


def sharpen(model: Any) -> None:
    model.model.layers[2].self_attn.q_proj.weight *= 5000


def send_all_to_one(model: Any) -> None:
    """Of equal scores the first is taken."""
    model.model.layers[1].mlp.gate.weight.zero_()


def nothing(model: Any) -> None:
    pass


FAULTS: dict[str, tuple[dict[str, Any], Callable[[Any], None], dict[str, Any], tuple[str, str, str], set[str]]] = {
    # a model, what is done to it, settings; the verdict with its layers; and what else may be told of it
    "dead units": (
        {"architecture": "gpt2", "config": RELU},
        kill_units,
        WIDE_BATCH,
        ("dead_units", "critical", "h.1.mlp.act"),
        set(),
    ),
    "queries of 5000 times the size": (
        {"config": DEEP},
        sharpen,
        {},
        ("saturated_attention", "warning", "layers.2"),
        set(),
    ),
    "weights of 1": (
        {"config": {**DEEP, "hidden_size": 64}, "initialization": {"type": "normal", "std": 1.0}},
        nothing,
        {},
        ("saturated_attention", "critical", "layers.0 to layers.3 (4 layers)"),
        {"loss_above_guessing", "first_block", "always_clipped", "nothing_learned", "no_better_than_frequencies"},
    ),
    "weights of a ten-thousandth": (
        {"config": DEEP, "initialization": {"type": "normal", "std": 1e-4}},
        nothing,
        {},
        ("idle_blocks", "warning", "layers.0 to layers.3 (4 layers)"),
        {"unstable_updates"},
    ),
    "a router that sends all to one expert": (
        {"architecture": "mixtral", "config": MIXTURE},
        send_all_to_one,
        {**WIDE_BATCH, "router_aux_loss_coef": 0.0},
        ("collapsed_router", "critical", "layers.1"),
        set(),
    ),
    "norms behind the branches at a high rate": (
        {"architecture": "openai-gpt", "config": POST_NORM},
        nothing,
        {"learning_rate": 0.1, "warmup_steps": 0},
        ("gradient_factor", "critical", "h.0"),
        {"vanishing_gradients", "nothing_learned", "no_better_than_frequencies", "unstable_updates"},
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if "rate" in name else name for name in FAULTS]
)
def test_a_fault_is_named_with_its_layer(tmp_path, monkeypatch, name):
    model, plant, settings, (what, severity, where), others = FAULTS[name]
    prepare_layers = build_state.prepare_layers

    def planted(config: Any, built: Any) -> None:
        with torch.no_grad():
            plant(built)
        prepare_layers(config, built)

    monkeypatch.setattr(build_state, "prepare_layers", planted)
    held_out = ordered(601, 6)
    _, told = trained(tmp_path, held_out=held_out, model=model, max_steps=STEPS, **settings)
    assert first_step(told, what, severity) <= STEPS / 10
    line = next(line for line in told if line["what"] == what)
    assert line["evidence"]["where"].startswith(where)
    assert line["since"] == 0 or line["what"] == "gradient_factor"
    kinds = {line["what"] for line in told if line["kind"] != "speed" and line["verdict"] != "healthy"}
    assert kinds - others == {what}


class Stack(nn.Module):
    """A language model of layers without attention, residual connections or norms."""

    base_model_prefix = ""
    config = PretrainedConfig()

    def __init__(self, activation: type[nn.Module], gain: float, depth: int = 40, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB_SIZE, width)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(width, width), activation()) for _ in range(depth))
        self.head = nn.Linear(width, VOCAB_SIZE)
        for layer in self.layers:
            nn.init.normal_(layer[0].weight, std=gain / width**0.5)

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x)
        return SimpleNamespace(logits=self.head(x))


def told_of(net: Stack, steps: int = 40) -> dict[str, Any]:
    """What is said of a stack in the first tenth of its training."""
    facts = HealthFacts("tokens", steps, 0, 1e-3, 1.0, is_pretrained=False, stops_early=False, probe_tokens=512)
    split, panel = Rows(), HealthPanel(facts)
    probe = ModelProbe(net, split, range(3), loss_sums, ALONE, torch.device("cpu"), 3)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    batch = {name: torch.from_numpy(values) for name, values in split.batch(range(3)).items()}
    told = {}
    for step in range(steps // 10 + 1):
        [figures] = to_host([probe.measure()])
        told |= {verdict.what: verdict for verdict in panel.add({"step": step, **probe.tags(figures)})}
        loss_sums(net(batch["input_ids"], use_cache=False), batch).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    return told


@pytest.mark.parametrize(("activation", "gain"), [(nn.Sigmoid, 1.0), (nn.Tanh, 0.5)])
def test_the_factor_of_each_block_of_a_deep_stack_is_told(activation, gain):
    torch.manual_seed(0)
    verdict = told_of(Stack(activation, gain))["gradient_factor"]
    assert (verdict.verdict, verdict.since) == ("critical", 0)
    assert verdict.evidence.where == "layers.0 to layers.39"
    each, whole = verdict.evidence.figures["each"], verdict.evidence.figures["whole"]
    assert each**39 == pytest.approx(whole)
    assert f"{each:.3g}^39 = {whole:.2g}" in verdict.evidence.words


@pytest.mark.parametrize("seed", range(3))
def test_of_a_well_scaled_stack_nothing_is_told(seed):
    torch.manual_seed(seed)
    assert told_of(Stack(nn.Tanh, 1.0, depth=8)) == {}


def test_saturated_units_are_told_with_their_layer():
    torch.manual_seed(0)
    net = Stack(nn.Tanh, 1.0, depth=4)
    with torch.no_grad():
        net.layers[2][0].bias[:8] = 9
    verdict = told_of(net)["saturated_units"]
    assert (verdict.verdict, verdict.evidence.where, verdict.since) == ("warning", "layers.2.1", 0)
    assert LENGTH * len(Rows()) < 512  # the facts say otherwise: of fewer tokens nothing would be told
