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
from training.tiny import LLAMA, VOCAB_SIZE, make_tokenizer
from transformers import PretrainedConfig

from pipeline.distributed.collectives import ALONE
from pipeline.modeling.build import build_model, load_hf_tokenizer
from pipeline.modeling.model_config import ModelConfig
from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.model_probe import ModelProbe
from pipeline.telemetry.panel import HealthPanel, replay
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


def sharpen_more(model: Any) -> None:
    model.model.layers[2].self_attn.q_proj.weight *= 500_000


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
        {"unstable_updates", "overwritten_weights"},
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
        {
            "vanishing_gradients",
            "nothing_learned",
            "no_better_than_frequencies",
            "unstable_updates",
            "overwritten_weights",
        },
    ),
}


def plant_in_what_is_built(monkeypatch: pytest.MonkeyPatch, plant: Callable[[Any], None]) -> None:
    """Change each model before its training begins."""
    prepare_layers = build_state.prepare_layers

    def planted(config: Any, built: Any) -> None:
        with torch.no_grad():
            plant(built)
        prepare_layers(config, built)

    monkeypatch.setattr(build_state, "prepare_layers", planted)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if "rate" in name else name for name in FAULTS]
)
def test_a_fault_is_named_with_its_layer(tmp_path, monkeypatch, name):
    model, plant, settings, (what, severity, where), others = FAULTS[name]
    plant_in_what_is_built(monkeypatch, plant)
    held_out = ordered(601, 6)
    _, told = trained(tmp_path, held_out=held_out, model=model, max_steps=STEPS, **settings)
    assert first_step(told, what, severity) <= STEPS / 10
    line = next(line for line in told if line["what"] == what)
    assert line["evidence"]["where"].startswith(where)
    assert line["since"] == 0 or line["what"] == "gradient_factor"
    kinds = {line["what"] for line in told if line["kind"] != "speed" and line["verdict"] != "healthy"}
    assert kinds - others == {what}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "remedy", "mended"),
    [
        ("norms behind the branches at a high rate", "lower train.learning_rate", {"learning_rate": 1e-3}),
        (
            "a router that sends all to one expert",
            "raise train.router_aux_loss_coef",
            {"router_aux_loss_coef": 0.05, "max_steps": 140},
        ),
    ],
)
def test_the_remedy_of_a_training_mends_it(tmp_path, monkeypatch, name, remedy, mended):
    model, plant, settings, (what, *_), _ = FAULTS[name]
    plant_in_what_is_built(monkeypatch, plant)
    found, _ = trained(tmp_path / "faulty", model=model, max_steps=12, **settings)
    assert found[what].remedy.startswith(remedy)
    found, _ = trained(tmp_path / "mended", model=model, **{**settings, "max_steps": 30, **mended})
    assert what not in found


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


def at_start(tokenizer: Any, model: dict[str, Any], plant: Callable[[Any], None] = nothing) -> dict[str, Any]:
    """What is said of a model before its training."""
    built = build_model(ModelConfig(**{"architecture": "llama", **model}), tokenizer, 0)
    with torch.no_grad():
        plant(built)
    probe = ModelProbe(built, Rows(), range(3), loss_sums, ALONE, torch.device("cpu"), 3)  # type: ignore[arg-type]
    [figures] = to_host([probe.measure()])
    facts = HealthFacts("tokens", 100, 0, 1e-3, 1.0, is_pretrained=False, stops_early=False)
    panel = replay(facts, [{"step": step, **probe.tags(figures)} for step in range(3)])
    return {one.what: one for one in panel.verdicts() if not one.is_healthy}


def drawn(**settings: float) -> dict[str, Any]:
    return {"config": {**DEEP, "hidden_size": 64}, "initialization": {"type": "normal", **settings}}


OLMO2 = {"architecture": "olmo2", "config": DEEP}
CURES: dict[str, tuple[str, dict[str, Any], Callable[[Any], None], str, dict[str, Any]]] = {
    # what is told of a model, that model, what is done to it; the remedy, and the model that follows it
    "weights of 1": ("saturated_attention", drawn(std=1.0), nothing, "smaller weights", drawn(std=0.02)),
    "weights of 1, beside": ("first_block", drawn(std=1.0), nothing, "smaller weights", drawn(std=0.02)),
    "weights of a ten-thousandth": ("idle_blocks", drawn(std=1e-4), nothing, "larger weights", drawn(std=0.02)),
    "embeddings of 30": (
        "idle_blocks",
        drawn(std=0.02, embedding_std=30.0),
        nothing,
        "smaller embeddings",
        drawn(std=0.02, embedding_std=0.02),
    ),
    "embeddings of a two-hundredth below norms": (
        "first_block",
        {**OLMO2, "initialization": {"type": "normal", "std": 0.2, "embedding_std": 0.005}},
        nothing,
        "larger embeddings",
        {**OLMO2, "initialization": {"type": "normal", "std": 0.2, "embedding_std": 1.0}},
    ),
    "queries of 5000 times the size": (
        "saturated_attention",
        {"config": DEEP},
        sharpen,
        "query and key norms",
        {"architecture": "qwen3", "config": {**DEEP, "head_dim": 8}},
    ),
    "queries of 500,000 times the size": (
        "large_attention_logits",
        {"config": DEEP},
        sharpen_more,
        "query and key norms",
        {"architecture": "qwen3", "config": {**DEEP, "head_dim": 8}},
    ),
}


@pytest.mark.parametrize("name", CURES)
def test_the_remedy_is_of_the_side_at_fault_and_mends_it(tmp_path, name):
    what, faulty, plant, remedy, mended = CURES[name]
    make_tokenizer(tmp_path)
    tokenizer = load_hf_tokenizer(tmp_path)
    found = at_start(tokenizer, faulty, plant)
    assert remedy in found[what].remedy
    assert "train." not in found[what].remedy, "no step was taken"
    after = at_start(tokenizer, mended, plant)
    assert what not in after
    assert not {one.what for one in after.values() if one.kind in ("activations", "attention")}


class Residual(Stack):
    """The same with residual connections."""

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        x = self.embed(input_ids)
        for layer in self.layers:
            x = x + layer(x)
        return SimpleNamespace(logits=self.head(x))


@pytest.mark.parametrize(
    ("faulty", "remedy", "mended"),
    [
        (lambda: Stack(nn.Sigmoid, 1.0), "residual connections", lambda: Residual(nn.Sigmoid, 1.0)),
        (lambda: Stack(nn.Tanh, 0.5), "residual connections", lambda: Residual(nn.Tanh, 0.5)),
        (lambda: Stack(nn.Tanh, 0.5), "fewer layers", lambda: Stack(nn.Tanh, 0.5, depth=6)),
        (lambda: Stack(nn.ReLU, 3.0), "smaller weights", lambda: Stack(nn.ReLU, 2**0.5)),
    ],
)
def test_the_remedy_of_a_gradient_that_compounds_mends_it(faulty, remedy, mended):
    torch.manual_seed(0)
    assert remedy in told_of(faulty())["gradient_factor"].remedy
    assert "gradient_factor" not in told_of(mended())


def test_saturated_units_are_told_with_their_layer():
    torch.manual_seed(0)
    net = Stack(nn.Tanh, 1.0, depth=4)
    with torch.no_grad():
        net.layers[2][0].bias[:8] = 9
    verdict = told_of(net)["saturated_units"]
    assert (verdict.verdict, verdict.evidence.where, verdict.since) == ("warning", "layers.2.1", 0)
    assert LENGTH * len(Rows()) < 512  # the facts say otherwise: of fewer tokens nothing would be told
