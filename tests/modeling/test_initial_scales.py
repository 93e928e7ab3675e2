from __future__ import annotations

import math

import pytest
import torch
from training.tiny import GPT2, LLAMA, make_tokenizer

from pipeline.modeling.build import build_model, load_hf_tokenizer
from pipeline.modeling.initial_scales import measure_scales
from pipeline.modeling.model_config import ModelConfig
from pipeline.tasks.causal_lm import CausalLm
from pipeline.telemetry.initial_verdicts import finite_scales, judge_start
from pipeline.telemetry.verdicts import headline


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(folder)
    return load_hf_tokenizer(folder)


def measure(tokenizer, architecture="llama", config=LLAMA, **initialization):
    section = ModelConfig(architecture=architecture, config=config, initialization=initialization)
    return measure_scales(build_model(section, tokenizer, 0), 0, CausalLm().start_loss)


@pytest.mark.parametrize(
    ("architecture", "config", "blocks"), [("llama", LLAMA, "layers"), ("gpt2", GPT2, "h"), ("openai-gpt", GPT2, "h")]
)
def test_scales_are_those_of_the_blocks(tokenizer, architecture, config, blocks):
    model = build_model(ModelConfig(architecture=architecture, config=config), tokenizer, 0)
    measured = measure_scales(model, 0, CausalLm().start_loss)
    assert list(measured["layers"]) == [f"{blocks}.0", f"{blocks}.1"]
    ids = torch.randint(64, (2, 16), generator=torch.Generator().manual_seed(0))
    model.eval()
    output = model(ids, labels=ids, output_hidden_states=True)
    assert measured["loss"] == pytest.approx(output.loss.item(), rel=1e-5)
    first = output.hidden_states[1].square().mean().sqrt().item()
    assert measured["layers"][f"{blocks}.0"]["activation_rms"] == pytest.approx(first, rel=1e-5)
    output.loss.backward()
    squares = [p.grad.square().sum() for n, p in model.named_parameters() if f".{blocks}.1." in n]
    assert measured["layers"][f"{blocks}.1"]["grad_norm"] == pytest.approx(math.sqrt(sum(squares)), rel=1e-4)
    assert headline(judge_start(measured)) == "healthy"


def test_a_bad_initialization_is_named(tokenizer):
    deep = {**LLAMA, "num_hidden_layers": 6}
    assert headline(judge_start(measure(tokenizer, config=deep))) == "healthy"
    # Weights so small that no gradient passes from one branch to the next.
    tiny = judge_start(measure(tokenizer, config=deep, type="normal", std=1e-25, embedding_std=0.02))
    assert tiny[0].what == "vanishing_gradients_at_the_start"
    assert "layers.0" in tiny[0].evidence.where


@pytest.mark.parametrize(
    ("loss", "severity"),
    [(4.1, "healthy"), (4.9, "healthy"), (5.1, "warning"), (8.4, "critical"), (math.nan, "critical")],
)
def test_a_loss_above_guessing_at_the_start_is_named(loss, severity):
    measured = {**layers((1, 1), (1, 1)), "loss": loss}
    found = {verdict.what: verdict for verdict in judge_start(measured)}
    assert found["loss_at_the_start"].verdict == severity
    assert "loss_at_the_start" not in {verdict.what for verdict in judge_start(measured, is_pretrained=True)}


def layers(*scales):
    rows = {f"layers.{i}": {"activation_rms": rms, "grad_norm": norm} for i, (rms, norm) in enumerate(scales)}
    return {"loss": 4.0, "uniform_loss": 4.1, "layers": rows}


@pytest.mark.parametrize(
    ("scales", "verdict", "who"),
    [
        ([(1, 1), (3, 1), (9, 1)], "healthy", "within a factor of 9.0"),
        ([(1, 1), (20, 1), (400, 1)], "exploding", "layers.2"),
        ([(1, 5000), (1, 60), (1, 1)], "exploding", "layers.0"),
        ([(1, 1e-5), (1, 1e-2), (1, 1)], "vanishing", "layers.0"),
        ([(1, 1), (0.1, 1), (0.001, 1)], "vanishing", "layers.2"),
        ([(1, 1), (math.nan, math.nan), (math.inf, math.nan)], "exploding", "layers.1, layers.2"),
        ([], "unknown", "no numbered blocks"),
    ],
)
def test_verdicts(scales, verdict, who):
    measured = layers(*scales)
    judged = judge_start(measured)
    told = [one for one in judged if one.kind != "loss"]
    bad = [one for one in told if not one.is_healthy]
    if verdict in ("exploding", "vanishing"):
        assert bad
        assert all(one.what.startswith(verdict) and one.verdict == "critical" for one in bad)
    else:
        assert not bad
        assert {one.verdict for one in told} == {verdict}
    assert any(who in one.evidence.words for one in told)
    shown = finite_scales(measured)["layers"].values()
    assert all(value is None or math.isfinite(value) for row in shown for value in row.values())
