"""What a training records, what it refuses, and when it copies from the device."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from training.tiny import GPT2, LLAMA, make_inputs, outcome, run_train
from transformers.models.llama import modeling_llama

from pipeline.errors import ConfigError, DivergedError
from pipeline.telemetry.matrix_figures import figures_by_layer
from pipeline.training import loop, train_step
from pipeline.training.batches import GlobalBatches
from pipeline.training.due import Due

GROK1 = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
LAYERS = {"embed_tokens", "layers.0", "layers.1", "norm", "lm_head"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_records_and_summary(inputs, tmp_path):
    summary = run_train(inputs, tmp_path)
    lines = metrics(tmp_path / "output")
    assert [line["step"] for line in lines if "train/loss" in line] == [3, 6, 9, 12]
    assert [line["step"] for line in lines if "eval/loss" in line] == [6, 12]
    before, first, *_ = lines
    assert before["step"] == before["target_tokens"] == 0
    assert before["probe/loss"] == pytest.approx(math.log(64), rel=0.05)
    assert first["train/loss"] == pytest.approx(math.log(64), rel=0.05)
    assert first["train/learning_rate"] == 0.01
    assert first["train/loss"] <= first["train/loss_max"]
    assert 1 <= first["train/loss_max_step"] <= 3
    assert first["train/grad_norm"] <= first["train/grad_norm_max"]
    assert first["train/grad_norm_clipped"] <= first["train/grad_norm"]
    assert figures_by_layer(first).keys() == LAYERS
    assert [line["step"] for line in lines if figures_by_layer(line)] == [3, 6, 9]
    assert lines[-1]["eval/perplexity"] == pytest.approx(math.exp(lines[-1]["eval/loss"]))
    assert summary["eval_loss"] < lines[3]["eval/loss"] < math.log(64)
    # 421 tokens make 26 full windows of 16 targets and one of 4; 48 sequences are drawn.
    assert (summary["steps"], summary["epochs"]) == (12, round(48 / 27, 6))
    assert 48 * 16 - 2 * 12 <= summary["target_tokens"] <= 48 * 16 - 12
    assert summary["layers"].keys() == LAYERS


def test_loss_and_weights_are_the_same_bits_whatever_is_measured(tmp_path, monkeypatch):
    inputs = make_inputs(tmp_path, "gpt2", GPT2)  # with dropout
    settings = {"max_steps": 8, "logging_steps": 1, "optim": "muon", "max_grad_norm": 0.5}
    settings |= {"per_device_train_batch_size": 1}
    found = {}
    for name, steps in (("each step", 1), ("by default", None), ("hardly", 10**9), ("never", None)):
        if name == "never":
            monkeypatch.setattr(Due, "telemetry", lambda self, step: False)
        run_train(inputs, tmp_path / name, telemetry_steps=steps, **settings)
        found[name] = outcome(tmp_path / name, "output")
    steps_measured = {
        name: [line["step"] for line in one["metrics"] if figures_by_layer(line)] for name, one in found.items()
    }
    assert steps_measured == {
        "each step": [*range(1, 9)], "by default": [1, 2, 3, 5], "hardly": [1, 2, 3], "never": []
    }  # fmt: skip
    probed = {name: [line["step"] for line in one["metrics"] if "probe/loss" in line] for name, one in found.items()}
    assert probed == {name: [0, *steps] if steps else [] for name, steps in steps_measured.items()}
    measured = ("matrices/", "probe/", "attention/", "experts/", "embedding/", "unmeasured/", "train/grad_noise_scale")
    measured += ("health/", "verdicts/")  # which judge it
    for one in found.values():
        one["metrics"] = [_without(measured, line) for line in one["metrics"] if line["step"] > 0]
        one["tensorboard"] = {
            tag: told
            for tag, told in _without(measured, one["tensorboard"]).items()
            if tag.startswith(("train/", "eval/"))
        }
    assert all(one == found["never"] for one in found.values())


def _without(tags, values):
    return {tag: value for tag, value in values.items() if not tag.startswith(tags)}


def test_figures_do_not_depend_on_accumulation(inputs, tmp_path):
    for size in (1, 4):
        run_train(inputs, tmp_path / str(size), max_steps=3, per_device_train_batch_size=size)
    one, four = (
        {tag: value for tag, value in metrics(tmp_path / size / "output")[1].items() if tag.startswith("matrices/")}
        for size in ("1", "4")
    )
    assert one.keys() == four.keys()
    assert {tag: one[tag] for tag in one if "grad" in tag} == pytest.approx({t: four[t] for t in one if "grad" in t})


def test_epochs_become_whole_steps(inputs, tmp_path):
    assert run_train(inputs, tmp_path, max_steps=None, num_train_epochs=0.5)["steps"] == 4  # 13.5 of 27 windows


def test_clipping_limits_the_norm_and_counts(inputs, tmp_path):
    run_train(inputs, tmp_path, max_grad_norm=0.01)
    for line in metrics(tmp_path / "output"):
        if "train/loss" in line:
            assert line["train/clipped_share"] == 1
            assert line["train/grad_norm_clipped"] == pytest.approx(0.01)


def test_gradient_checkpointing_gives_the_same_weights(inputs, tmp_path):
    for name, enabled in (("plain", False), ("recomputed", True)):
        run_train(inputs, tmp_path / name, gradient_checkpointing=enabled)
    plain, recomputed = (tmp_path / name / "output/model/model.safetensors" for name in ("plain", "recomputed"))
    assert plain.read_bytes() == recomputed.read_bytes()


def test_divergence_exits_70_and_leaves_only_good_checkpoints(inputs, tmp_path, monkeypatch):
    from safetensors.torch import load_file

    monkeypatch.setattr(train_step, "learning_rate", lambda section, step, max_steps: 1e-3 if step < 3 else 1e30)
    with pytest.raises(DivergedError, match=r"diverged: .*learning_rate") as caught:
        run_train(inputs, tmp_path, optim="sgd", max_grad_norm=None, save_steps=1, save_total_limit=9, logging_steps=12)
    assert caught.value.exit_code == 70
    assert not list((tmp_path / "output").iterdir())
    checkpoints = sorted((tmp_path / "work").glob("step-*"))
    assert [path.name for path in checkpoints[:3]] == ["step-00000001", "step-00000002", "step-00000003"]
    assert len(checkpoints) < 12
    for checkpoint in checkpoints:
        assert all(tensor.isfinite().all() for tensor in load_file(checkpoint / "model.safetensors").values())


def test_nan_in_the_last_step_is_never_exported(inputs, tmp_path, monkeypatch):
    original = train_step.learning_rate

    def broken_at_the_end(section, step, max_steps):
        return original(section, step, max_steps) if step < max_steps - 1 else math.nan

    monkeypatch.setattr(train_step, "learning_rate", broken_at_the_end)
    with pytest.raises(DivergedError, match="step 12"):
        run_train(inputs, tmp_path)
    assert not list((tmp_path / "output").iterdir())


@pytest.mark.parametrize(
    ("architecture", "config", "settings"),
    [
        ("llama", LLAMA, {}),
        ("gpt2", GPT2, {}),
        ("gpt2", GPT2, {"ema_decay": 0.9, "z_loss_coef": 0.1, "gradient_density": 0.5, "max_grad_value": 0.1}),
    ],
)
def test_nothing_is_copied_from_the_device_between_records(tmp_path, monkeypatch, architecture, config, settings):
    """On a CPU a copy costs nothing, but the same calls would wait for a GPU."""
    inputs = make_inputs(tmp_path, architecture, config)
    steps: list[int] = []
    copies: Counter[int] = Counter()

    def noting(name):
        original = getattr(torch.Tensor, name)

        def wrapped(tensor, *args, **kwargs):
            copies[steps[-1] if steps else 0] += 1
            return original(tensor, *args, **kwargs)

        return wrapped

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if "_local_scalar_dense" in str(function):
                copies[steps[-1] if steps else 0] += 1
            return function(*args, **(kwargs or {}))

    batch_of = GlobalBatches.__getitem__

    def counting(self, step):
        steps.append(step + 1)
        return batch_of(self, step)

    monkeypatch.setattr(GlobalBatches, "__getitem__", counting)
    monkeypatch.setattr(loop, "record_anatomy", lambda state: None)  # which copies all of the model, a few times a run
    for name in ("tolist", "cpu", "numpy", "item"):
        monkeypatch.setattr(torch.Tensor, name, noting(name))
    with Watch():
        run_train(inputs, tmp_path, logging_steps=4, eval_steps=None, save_steps=1000, **settings)
    assert copies.keys() - {0} == {4, 8, 12}
    # The losses that the guard looks at, and one record with all matrices. After step 12 come validation and saving.
    assert copies[4] == copies[8] == 2


def test_sequences_longer_than_the_model_are_refused(tmp_path):
    inputs = make_inputs(tmp_path, config={**LLAMA, "max_position_embeddings": 8})
    with pytest.raises(ConfigError, match="block_size 16 is more than the model's 8 positions"):
        run_train(inputs, tmp_path)


def test_a_warm_up_longer_than_the_epochs_is_refused(inputs, tmp_path):
    with pytest.raises(ConfigError, match="warmup_steps 9 is more than the 7 steps of the run"):
        run_train(inputs, tmp_path, max_steps=None, num_train_epochs=1, warmup_steps=9)


@pytest.mark.parametrize(("asked", "is_eager"), [("eager", True), ("sdpa", False)])
def test_attention_is_computed_as_asked(inputs, tmp_path, monkeypatch, asked, is_eager):
    eager, calls = modeling_llama.eager_attention_forward, []
    monkeypatch.setattr(modeling_llama, "eager_attention_forward", lambda *a, **k: calls.append(1) or eager(*a, **k))
    run_train(inputs, tmp_path, max_steps=3, warmup_steps=0, attn_implementation=asked)
    assert bool(calls) == is_eager


def test_attention_that_cannot_train_here_is_refused(inputs, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # a GPU that is left alone does not count
    with pytest.raises(
        ConfigError, match=r"train\.attn_implementation: flex_attention needs a GPU to train; take eager"
    ):
        run_train(inputs, tmp_path, attn_implementation="flex_attention")


def test_attention_that_the_architecture_lacks_is_refused(tmp_path):
    inputs = make_inputs(tmp_path / "inputs", "grok1", GROK1)
    with pytest.raises(ConfigError, match=r"train\.attn_implementation: grok1 cannot use sdpa"):
        run_train(inputs, tmp_path, attn_implementation="sdpa")
