"""The anatomy of a step against a naive float64 computation of the same step."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training.test_labelled import make_labelled
from training.test_sharded import train_sharded
from training.tiny import LLAMA, in_processes, make_inputs, run_train

from pipeline.errors import ConfigError
from pipeline.modeling.build import load_model
from pipeline.reporting.part_rows import multipliers_of
from pipeline.tasks import task_of_split
from pipeline.telemetry.anatomy import Anatomy
from pipeline.tokens.mixing import Epoch
from pipeline.training import anatomies
from pipeline.training.anatomies import rate_after, subject_of_checkpoint, subject_of_model
from pipeline.training.dissection import Subject, dissect
from pipeline.training.optimization.schedules import learning_rate
from pipeline.training.train_config import TrainConfig

MOMENTUM = {"optim": "sgd", "momentum": 0.8, "weight_decay": 0.05, "learning_rate": 0.05, "max_grad_norm": 0.2}
ADAMW = {"optim": "adamw_torch", "weight_decay": 0.3, "max_grad_norm": 0.2}
SHORT: dict[str, Any] = {"max_steps": 6, "global_batch_size": 4, "save_steps": 4, "mixed_precision": "no"}
CPU = torch.device("cpu")


def subject_at(inputs: dict[str, Path], folder: Path, step: int, **changes: Any) -> Subject:
    """Train, and take what a checkpoint has."""
    run_train(inputs, folder, **{**SHORT, **changes})
    return subject_of(inputs, folder, step, **changes)


def subject_of(inputs: dict[str, Path], folder: Path, step: int, **changes: Any) -> Subject:
    config = TrainConfig(**{**SHORT, "learning_rate": 0.01, "warmup_steps": 2, **changes})
    task = task_of_split(inputs["pack"], "train")
    train, validation = (task.open_split(inputs["pack"], inputs["encode"], split) for split in ("train", "validation"))
    checkpoint = folder / "work" / f"step-{step:08d}"
    return subject_of_checkpoint(checkpoint, config, task, Epoch.of(train), validation, inputs["model"], 3, CPU)


@pytest.fixture(scope="module")
def llama_inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_inputs(tmp_path_factory.mktemp("inputs"), "llama", LLAMA)


@pytest.mark.parametrize("changes", [MOMENTUM, ADAMW], ids=["sgd", "adamw"])
def test_every_figure_is_that_of_a_naive_computation(
    llama_inputs: dict[str, Path], tmp_path: Path, changes: dict[str, Any]
) -> None:
    subject = subject_at(llama_inputs, tmp_path, 4, **changes)
    state = {
        name: {key: value.clone() for key, value in subject.optimizer.state[parameter].items()}
        for name, parameter in subject.model.named_parameters()
    }
    random = torch.get_rng_state()
    found = dissect(subject)
    assert torch.equal(random, torch.get_rng_state())

    # Naive: the model in float64, as far as its norms let it; a hook for each output; losses one by one.
    model = load_model(llama_inputs["model"] / "model").double()
    model.load_state_dict(load_file(tmp_path / "work/step-00000004/model.safetensors"), strict=False)
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: Any, arguments: Any, output: Any) -> None:
            outputs[name] = output[0] if isinstance(output, tuple) else output
            if outputs[name].requires_grad:
                outputs[name].retain_grad()

        return hook

    for name, module in model.named_modules():
        module.register_forward_hook(keep(name.removeprefix("model."))) if name not in ("", "model") else None
    batch = (
        task_of_split(llama_inputs["pack"], "train")
        .open_split(llama_inputs["pack"], llama_inputs["encode"], "validation")
        .batch(range(4))
    )
    ids, labels = torch.from_numpy(batch["input_ids"]), torch.from_numpy(batch["labels"])
    logits = model.eval()(input_ids=ids, use_cache=False).logits
    logits.retain_grad()
    losses = [
        torch.log(torch.exp(logits[row, place]).sum()) - logits[row, place, label]
        for row in range(4)
        for place in range(16)
        if (label := labels[row, place]) != -100
    ]
    loss = sum(losses) / len(losses)
    loss.backward()

    assert (found.batch.rows, found.batch.length, found.batch.targets) == (4, 16, len(losses))
    assert [token.id for token in found.batch.tokens] == ids[0].tolist()
    assert [token.text for token in found.batch.tokens] == [f"w{token}" for token in ids[0].tolist()]
    assert found.loss.by_hand == found.loss.objective == pytest.approx(loss.item(), rel=1e-6)
    assert found.loss.by_torch == pytest.approx(loss.item(), rel=1e-6)
    assert found.loss.guess == pytest.approx(np.log(64))
    assert found.loss.gradient_norm == pytest.approx(logits.grad.norm().item(), rel=1e-5)
    assert found.loss.gradient_difference < 1e-5
    ordered = sorted(one.item() for one in losses)
    assert [one.loss for one in found.loss.examples] == pytest.approx(
        [ordered[0], ordered[(len(ordered) - 1) // 2], ordered[-1]], rel=1e-4
    )
    for one in found.loss.examples:
        assert one.by_hand == pytest.approx((np.exp(-one.loss) - 1) / len(losses))
        assert one.by_autograd == pytest.approx(one.by_hand, rel=1e-3)

    layers = [f"layers.{index}{part}" for index in range(2) for part in (".self_attn", ".mlp", "")]
    assert [station.name for station in found.stations] == ["embed_tokens", *layers, "norm", "lm_head"]
    for station in found.stations:
        output = outputs[station.name]
        assert station.shape == [*output.shape]
        assert station.rms == pytest.approx(output.square().mean().sqrt().item(), rel=1e-5)
        assert station.largest == pytest.approx(output.abs().max().item(), rel=1e-5)
        assert station.gradient_norm == pytest.approx(output.grad.norm().item(), rel=1e-4)
    sizes = [outputs[name].grad.norm().item() for name in ("embed_tokens", "layers.0", "layers.1")]
    factors = [station.factor for station in found.stations if station.kind == "block"]
    assert factors == pytest.approx([sizes[0] / sizes[1], sizes[1] / sizes[2]], rel=1e-4)
    assert found.factor_per_block == pytest.approx((sizes[0] / sizes[2]) ** 0.5, rel=1e-4)

    assert found.loss.outputs_rms == pytest.approx(logits.square().mean().sqrt().item(), rel=1e-5)
    given = [outputs[name] for name in ("embed_tokens", "layers.0")]
    for station, one in zip([one for one in found.stations if one.kind == "block"], given, strict=True):
        assert station.given.rms == pytest.approx(one.square().mean().sqrt().item(), rel=1e-5)
        assert station.given.gradient_norm == pytest.approx(one.grad.norm().item(), rel=1e-4)
        assert station.times == 1
    assert all(one.normed is None for one in found.stations), "no norm follows attention or mlp"

    with torch.no_grad():  # the head reads what earlier blocks give
        for name in ("embed_tokens", "layers.0", "layers.1"):
            hidden = outputs[name].detach()
            normed = hidden / (hidden.square().mean(-1, keepdim=True) + model.config.rms_norm_eps).sqrt()
            scores = (normed * model.model.norm.weight) @ model.lm_head.weight.T
            early = [
                (torch.log(torch.exp(scores[row, place]).sum()) - scores[row, place, label]).item()
                for row in range(4)
                for place in range(16)
                if (label := labels[row, place]) != -100
            ]
            [station] = [one for one in found.stations if one.name == name]
            assert station.loss_here == pytest.approx(sum(early) / len(early), rel=1e-6)
    assert found.stations[6].loss_here == pytest.approx(found.loss.by_hand, rel=1e-6)
    assert sum(one.loss_here is not None for one in found.stations) == 3

    with torch.no_grad():
        model.set_attn_implementation("eager")
        seen = model(input_ids=ids, use_cache=False, output_attentions=True).attentions
    for layer, weights in enumerate(seen):
        heads = [
            -sum(one * math.log(one) for one in row.tolist() if one > 0) / math.log(place + 1)
            for of_head in weights.double().flatten(0, 1)
            for place, row in enumerate(of_head)
            if place > 0
        ]
        [station] = [one for one in found.stations if one.name == f"layers.{layer}.self_attn"]
        assert station.entropy == pytest.approx(sum(heads) / len(heads), rel=1e-4)
    assert [one.dead_share for one in found.stations if one.kind == "mlp"] == [0, 0]

    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    norm = sum(gradient.square().sum().item() for gradient in gradients.values()) ** 0.5
    clip = found.update.clip
    assert clip.norm == pytest.approx(norm, rel=1e-5)
    assert clip.norm > clip.limit == changes["max_grad_norm"]
    assert clip.factor == pytest.approx(clip.limit / norm, rel=1e-5)
    assert clip.applied == pytest.approx(clip.factor, rel=1e-5)
    assert len(found.differences) == 4
    for one in found.differences:
        entry = gradients[full(one.parameter)][tuple(one.index)].item()
        assert one.autograd == pytest.approx(entry, rel=1e-4)
        assert one.central == pytest.approx(entry, rel=1e-5), "the naive one's norms are in float32"
        assert abs(entry) == pytest.approx(gradients[full(one.parameter)].abs().max().item(), rel=1e-4)

    rate = learning_rate(subject.config, 4, 6)
    assert (found.update.learning_rate, found.update.rate_of_step) == (rate, 5)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        gradient = gradients[name] * clip.limit / norm
        decay = 0.0 if parameter.ndim < 2 or "embed" in name else changes["weight_decay"]
        own = {key: value.double() for key, value in state[name].items()}
        if changes is MOMENTUM:
            direction = 0.8 * own["momentum_buffer"] + gradient + decay * parameter.data
            parameter.data = parameter.data - rate * direction
        else:
            mean, square = own["exp_avg"] * 0.9 + 0.1 * gradient, own["exp_avg_sq"] * 0.95 + 0.05 * gradient**2
            step = mean / (1 - 0.9**5) / ((square / (1 - 0.95**5)).sqrt() + 1e-8)
            parameter.data = parameter.data * (1 - rate * decay) - rate * step
    for one in found.update.updates:
        name = full(one.parameter)
        change = (dict(model.named_parameters())[name].detach() - before[name])[tuple(one.index)].item()
        assert one.by_hand == pytest.approx(change, rel=1e-4)
        assert abs(one.by_optimizer - one.by_hand) <= 2 * one.rounding
        assert one.weight == before[name][tuple(one.index)].item()
    after = torch.nn.functional.cross_entropy(
        model(input_ids=ids, use_cache=False).logits.flatten(0, 1), labels.flatten()
    )
    assert found.update.after == pytest.approx(after.item(), rel=1e-5)
    foretold = sum(
        (gradients[name] * (parameter.detach() - before[name])).sum().item()
        for name, parameter in model.named_parameters()
    )
    assert found.update.predicted_change == pytest.approx(foretold, rel=1e-3)


def full(name: str) -> str:
    return f"{name}.weight" if name == "lm_head" else f"model.{name}.weight"


@pytest.mark.parametrize(
    ("task", "changes", "formula"),
    [
        ("classification", {"label_smoothing_factor": 0.1, "z_loss_coef": 1e-3}, "cross_entropy"),
        ("regression", {}, "squared_error"),
        pytest.param("regression", {"regression_loss": "huber", "huber_delta": 0.5}, "huber", marks=pytest.mark.slow),
    ],
)
def test_the_formula_is_that_of_the_task(tmp_path: Path, task: str, changes: dict[str, Any], formula: str) -> None:
    found = dissect(subject_at(make_labelled(tmp_path / "inputs", task), tmp_path, 4, **changes))
    assert (found.task, found.loss.formula) == (task, formula)
    assert found.loss.objective == pytest.approx(found.loss.by_torch, rel=1e-6)
    assert found.loss.gradient_difference < 1e-6
    assert found.batch.targets >= 4
    assert [*found.loss.parts] == (["label_smoothing", "z_loss"] if task == "classification" else [])
    for one in found.differences:
        assert one.central == pytest.approx(one.autograd, rel=1e-4)
    read = [one.loss_here for one in found.stations if one.loss_here is not None]
    assert len(read) == 3
    assert read[-1] == pytest.approx(found.loss.by_hand, rel=1e-6)
    assert read[0] != pytest.approx(read[-1], rel=1e-6)
    if task == "classification":
        for one in found.loss.examples:  # the settings in the slope, as the page has it
            p = math.exp(one.output - one.log_normalizer)
            slope = (p * (1 + 2 * 1e-3 * one.log_normalizer) - (1 - 0.1 + 0.1 / 2)) / found.batch.targets
            assert one.by_hand == pytest.approx(slope, rel=1e-9)
        assert {one.target.text for one in found.loss.examples} <= {"low", "high"}
    else:
        assert {one.wanted for one in found.loss.examples} <= {-1.5, 1.0}


@pytest.mark.parametrize(
    "architecture", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("gpt2", "mixtral")), "grok1"]
)
def test_mixtures_tied_weights_and_other_optimizers(tmp_path: Path, architecture: str) -> None:
    from training.test_routing import GROK1, MIXTRAL
    from training.tiny import GPT2

    config = {"gpt2": GPT2, "mixtral": MIXTRAL, "grok1": GROK1}[architecture]
    changes = {"optim": "adafactor" if architecture == "gpt2" else "muon", "max_grad_value": 0.01}
    found = dissect(subject_at(make_inputs(tmp_path / "inputs", architecture, config), tmp_path, 4, **changes))
    assert ("router" in found.loss.parts) == (architecture != "gpt2")
    assert found.loss.objective == pytest.approx(found.loss.by_torch, rel=1e-6)
    assert len(found.differences) == 4
    for one in found.differences:
        assert one.central == pytest.approx(one.autograd, rel=1e-3, abs=1e-8)
    assert found.update.clip.factor is None
    assert found.update.clip.others == {"max_grad_value": 0.01}
    formulas = {(one.method, one.formula) for one in found.update.updates}
    assert formulas == ({("Adafactor", None)} if architecture == "gpt2" else {("Muon", None), ("AdamW", "adamw")})
    for one in found.update.updates:
        assert one.by_hand is None or abs(one.by_optimizer - one.by_hand) <= 2 * one.rounding
    read = [one.loss_here for one in found.stations if one.loss_here is not None]
    assert len(read) == 3
    assert read[-1] == pytest.approx(found.loss.by_hand, rel=1e-6)
    assert any(one.by_optimizer for one in found.update.updates)
    has_norms_behind = [one.normed is not None for one in found.stations if one.kind in ("attention", "mlp")]
    assert has_norms_behind == [architecture == "grok1"] * 4
    assert all(one.times == 1 for one in found.stations if one.kind == "block")
    by_name = {one.name: one for one in found.stations}
    if architecture == "grok1":  # its two multipliers, forward and back; the last thing added has the block's gradient
        embedding, given, head = by_name["embed_tokens"], by_name["layers.0"].given, by_name["lm_head"]
        assert given.rms / embedding.rms == pytest.approx(GROK1["hidden_size"] ** 0.5, rel=1e-5)
        assert embedding.gradient_norm / given.gradient_norm == pytest.approx(GROK1["hidden_size"] ** 0.5, rel=1e-5)
        assert found.loss.outputs_rms / head.rms == pytest.approx(3**-0.5, rel=1e-5)
        assert head.gradient_norm / found.loss.gradient_norm == pytest.approx(3**-0.5, rel=1e-5)
        last = by_name["layers.1"]
        assert by_name["layers.1.moe"].normed.gradient_norm == pytest.approx(last.gradient_norm, rel=1e-6)
        assert by_name["layers.1.moe"].normed.rms == pytest.approx(1, rel=0.05)
    kinds = [station.kind for station in found.stations if station.name != "wpe"]  # positions of gpt2
    assert kinds == ["embedding", *["attention", "mlp", "block"] * 2, "norm", "head"]


GRANITE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
GRANITE |= {"intermediate_size": 32, "max_position_embeddings": 64}
GRANITE |= {"embedding_multiplier": 12.0, "logits_scaling": 8.0, "residual_multiplier": 0.22}
GPT1 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}


def test_multipliers_of_an_architecture_are_measured(tmp_path: Path) -> None:
    """By what goes in and comes out, not by its name."""
    found = dissect(subject_at(make_inputs(tmp_path / "inputs", "granite", GRANITE), tmp_path, 4))
    assert [one.times for one in found.stations if one.kind == "block"] == pytest.approx([0.22] * 2, rel=1e-3)
    factors = [(one.before, one.after, one.factor) for one in multipliers_of(found)]
    assert factors == [
        ("embed_tokens", "layers.0", pytest.approx(12, rel=1e-5)),
        ("lm_head", "the loss", pytest.approx(1 / 8, rel=1e-5)),
    ]
    by_name = {one.name: one for one in found.stations}
    passed = by_name["layers.1"].gradient_norm * 0.22
    assert by_name["layers.1.mlp"].gradient_norm == pytest.approx(passed, rel=1e-4)


@pytest.mark.slow
def test_a_block_that_ends_in_a_norm_is_no_sum(tmp_path: Path) -> None:
    found = dissect(subject_at(make_inputs(tmp_path / "inputs", "openai-gpt", GPT1), tmp_path, 4))
    assert [(one.times, one.given is None) for one in found.stations if one.kind == "block"] == [(None, False)] * 2


@pytest.mark.slow
def test_a_sharded_training_is_taken_apart_whole(tmp_path: Path) -> None:
    """Its checkpoint is in parts, its model stage a recipe without weights."""
    inputs = make_inputs(tmp_path / "inputs", "llama", LLAMA, materialize_limit=0)
    assert in_processes(2, train_sharded, inputs, tmp_path, "output", True, SHORT | {"save_steps": 2}) == [75, 75]
    found = dissect(subject_of(inputs, tmp_path, 4))
    assert found.loss.by_torch == pytest.approx(found.loss.objective, rel=1e-6)
    assert {*found.update.updates[0].state} == {"step", "exp_avg", "exp_avg_sq"}
    for one in found.update.updates:
        assert one.state["step"] == 4
        assert abs(one.by_optimizer - one.by_hand) <= 2 * one.rounding


def test_units_that_give_nothing_are_counted(llama_inputs: dict[str, Path], tmp_path: Path) -> None:
    subject = subject_at(llama_inputs, tmp_path, 4)
    subject.model.get_parameter("model.layers.1.mlp.gate_proj.weight").data[:8] = 0
    shares = {one.name: one.dead_share for one in dissect(subject).stations if one.kind == "mlp"}
    assert shares == {"layers.0.mlp": 0, "layers.1.mlp": 8 / 32}


def test_of_a_short_window_the_padding_is_not_measured(llama_inputs: dict[str, Path], tmp_path: Path) -> None:
    subject = subject_at(llama_inputs, tmp_path, 4)
    ids, labels = subject.batch["input_ids"], subject.batch["labels"]
    labels[-1, 9:] = -100
    table = subject.model.get_input_embeddings().weight.detach().clone()
    logits = subject.model.eval()(input_ids=ids, use_cache=False).logits.detach()
    found = dissect(replace(subject, optimizer=None))
    by_name = {one.name: one for one in found.stations}
    for values, rms in (
        (table[ids], by_name["embed_tokens"].rms),
        (table[ids], by_name["layers.0"].given.rms),
        (logits, by_name["lm_head"].rms),
        (logits, found.loss.outputs_rms),
    ):
        tokens = torch.cat([values[:-1].flatten(0, 1), values[-1, :9]])
        assert rms == pytest.approx(tokens.square().mean().sqrt().item(), rel=1e-5)


def test_what_is_frozen_and_an_exported_model(llama_inputs: dict[str, Path], tmp_path: Path) -> None:
    frozen = ["embed_tokens", "layers\\.0\\."]
    subject = subject_at(llama_inputs, tmp_path, 4, freeze=frozen)
    found = dissect(subject)
    assert found.num_trainable < found.num_parameters
    assert {one.parameter.split(".")[0] for one in found.differences} <= {"layers", "lm_head"}
    assert all("layers.0." not in one.parameter for one in found.differences)
    first = {station.name: station for station in found.stations}
    assert first["embed_tokens"].gradient_norm is None
    assert first["layers.1"].factor is None, "nothing goes back into what is frozen"
    exported = subject_of_model(
        tmp_path / "output/model", 6, subject.config, subject.task, subject.task.open_split(
            llama_inputs["pack"], llama_inputs["encode"], "validation"
        ), CPU,
    )  # fmt: skip
    whole = dissect(exported)
    assert whole.update is None
    assert whole.no_update
    assert isinstance(whole, Anatomy)


def test_a_loss_that_is_not_finite_has_no_anatomy(llama_inputs: dict[str, Path], tmp_path: Path) -> None:
    subject = subject_at(llama_inputs, tmp_path, 4)
    next(subject.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        dissect(subject)


def test_large_models_are_refused(
    llama_inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anatomies, "MOST_PARAMETERS", 100)
    with pytest.raises(ConfigError, match=r"anatomy: the model has .* parameters; it is for up to 100"):
        subject_at(llama_inputs, tmp_path, 4)


def test_the_rate_is_that_of_the_next_step_which_has_one() -> None:
    config = TrainConfig(max_steps=10, learning_rate=1.0, warmup_steps=4, lr_scheduler_type="linear")
    assert vars(rate_after(config, 0, 10)) == {"value": 0.25, "step": 2, "is_last": False}
    assert vars(rate_after(config, 4, 10)) == {"value": 1.0, "step": 5, "is_last": False}
    last = rate_after(config, 10, 10)
    assert (last.step, last.is_last) == (10, True)
    assert last.value == learning_rate(config, 9, 10)
