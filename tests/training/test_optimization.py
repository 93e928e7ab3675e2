"""What a whole training does with the settings of its optimization."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training.tiny import GPT2, make_inputs, outcome, run_train, train_in_child, train_in_children

from pipeline.errors import ConfigError
from pipeline.training import train_step

EVERYTHING: dict[str, Any] = {
    "optim": "muon",
    "parameter_groups": [{"pattern": "wte", "learning_rate": 0.003, "weight_decay": 0.01}],
    "freeze": ["wpe"],
    "lr_scheduler_type": "warmup_stable_decay",
    "lr_scheduler_kwargs": {"num_decay_steps": 5},
    "max_grad_value": 0.05,
    "gradient_density": 0.5,
    "label_smoothing_factor": 0.1,
    "z_loss_coef": 1e-3,
    "ema_decay": 0.8,
    "eval_ema": True,
    "export": "ema",
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_inputs(tmp_path_factory.mktemp("inputs"), "gpt2", GPT2)


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "output" / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path, name: str = "output/model/model.safetensors") -> dict[str, torch.Tensor]:
    return load_file(folder / name)


def test_all_settings_together_survive_kills_to_the_same_bits(inputs, tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        folder.mkdir()
    assert train_in_child(inputs, undisturbed, **EVERYTHING) == 0
    for place, count in (("forward", 20), ("validate", 1)):
        assert train_in_child(inputs, killed, (place, count, "SIGKILL"), **EVERYTHING) == -9
    assert train_in_child(inputs, killed, **EVERYTHING) == 0
    assert outcome(killed, "output2") == outcome(undisturbed, "output0")


def test_the_parts_of_the_objective_are_recorded_beside_the_plain_loss(inputs, tmp_path):
    quiet = {"max_steps": 3, "logging_steps": 1, "learning_rate": 1e-9}
    run_train(inputs, tmp_path / "plain", **quiet)
    run_train(inputs, tmp_path / "extended", **quiet, label_smoothing_factor=0.2, z_loss_coef=1e-2, max_grad_value=1e-9)
    for plain, extended in zip(metrics(tmp_path / "plain"), metrics(tmp_path / "extended"), strict=True):
        if "train/loss" not in plain:
            continue
        assert "train/objective" not in plain
        # The dropout is the same; two ways to sum some hundred logarithms in float32 differ by some 1e-7.
        assert extended["train/loss"] == pytest.approx(plain["train/loss"], rel=1e-5)
        # An untrained model is all but uniform: smoothing changes little, and the normalizer of 64 logits near 0 is 64.
        assert extended["train/z_loss"] == pytest.approx(plain["train/loss"] ** 2, rel=0.05)
        expected = plain["train/loss"] + 1e-2 * extended["train/z_loss"]
        assert extended["train/objective"] == pytest.approx(expected, rel=0.02)
        assert extended["train/cut_share"] > 0.9
        assert extended["train/grad_norm_clipped"] < 1e-5 < extended["train/grad_norm"]


def test_averaged_weights_are_validated_and_exported(inputs, tmp_path):
    run_train(inputs, tmp_path, ema_decay=0.9, eval_ema=True, export="ema", learning_rate=0.05)
    last = "work/step-00000012"
    averages = weights(tmp_path, f"{last}/average.safetensors")
    exported, trained = weights(tmp_path), weights(tmp_path, f"{last}/model.safetensors")
    for name, average in averages.items():
        assert torch.equal(exported[name], average)
    assert not torch.equal(exported["transformer.wte.weight"], trained["transformer.wte.weight"])
    validated = [line for line in metrics(tmp_path) if "eval/loss" in line]
    assert len(validated) == 2
    assert all(line["eval/ema_loss"] != line["eval/loss"] for line in validated)


def test_frozen_parameters_stay_as_they_were(inputs, tmp_path):
    run_train(inputs, tmp_path, freeze=["wte", r"h\.0\."])
    before, after = load_file(inputs["model"] / "model" / "model.safetensors"), weights(tmp_path)
    unchanged = {name for name in after if torch.equal(before[name], after[name])}
    assert unchanged == {name for name in after if "wte" in name or ".h.0." in name}
    with pytest.raises(ConfigError, match=r"train.freeze.0: 'layers' is in the name of no parameter"):
        run_train(inputs, tmp_path / "none", freeze=["layers"])


def test_only_the_kept_part_of_the_gradient_moves_weights(inputs, tmp_path):
    settings = {"max_steps": 1, "optim": "sgd", "weight_decay": 0.0, "warmup_steps": 0, "gradient_density": 0.1}
    run_train(inputs, tmp_path, **settings)
    before, after = load_file(inputs["model"] / "model" / "model.safetensors"), weights(tmp_path)
    for name, weight in after.items():
        moved = int((weight != before[name]).sum())
        assert 0 < moved <= -(-weight.numel() // 10), name


def test_max_tokens_become_whole_steps(inputs, tmp_path):
    # 27 windows hold 420 targets: 4 of them 62.2 on average.
    assert run_train(inputs, tmp_path, max_steps=None, max_tokens=249)["steps"] == 5
    assert run_train(inputs, tmp_path / "less", max_steps=None, max_tokens=248)["steps"] == 4


def test_rates_by_group_follow_the_schedule(inputs, tmp_path, monkeypatch):
    seen: list[list[float]] = []
    original = train_step.set_learning_rate

    def watching(optimizer: torch.optim.Optimizer, rate: float) -> None:
        original(optimizer, rate)
        seen.append(sorted({group["lr"] for group in optimizer.param_groups}))

    monkeypatch.setattr(train_step, "set_learning_rate", watching)
    rules = [{"pattern": "wte", "learning_rate": 0.005}]
    run_train(inputs, tmp_path, max_steps=4, parameter_groups=rules, lr_scheduler_type="linear")
    assert seen == [[0.0], [0.0025, 0.005], [0.005, 0.01], [0.0025, 0.005]]


def test_two_processes_give_what_one_gives(inputs, tmp_path):
    """With everything that sees whole gradients or sums over tokens; but for dropout, which is drawn by process, and
    the noise scale, which is estimated from other parts of a batch."""
    inputs = make_inputs(tmp_path, "gpt2", {**GPT2, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0})
    found = []
    for count in (1, 2):
        folder = tmp_path / f"of{count}"
        folder.mkdir()
        settings = {**EVERYTHING, "gradient_density": None, "per_device_train_batch_size": 1}
        assert train_in_children(inputs, folder, count, **settings) == [0] * count
        lines = [json.loads(line) for line in (folder / "output0/metrics.jsonl").read_text().splitlines()]
        others = ("tokens_per", "noise_scale")
        kept = [{k: v for k, v in line.items() if "train/" in k and not any(o in k for o in others)} for line in lines]
        found.append(kept)
    for one, two in zip(*found, strict=True):
        # Reassociation of float32 sums, grown over 12 steps of Muon, which computes in bfloat16.
        assert one == pytest.approx(two, rel=1e-3, abs=1e-6)


def test_half_precision_needs_a_gpu(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"train.mixed_precision: fp16 needs a CUDA device"):
        run_train(inputs, tmp_path, mixed_precision="fp16")


@pytest.mark.gpu
def test_half_precision_learns_and_resumes_with_its_loss_scale(inputs, tmp_path):
    summary = run_train(inputs, tmp_path, mixed_precision="fp16", max_steps=200, save_steps=100)
    assert summary["eval_loss"] < 3
    state = json.loads((tmp_path / "work/step-00000200/state.json").read_text())
    assert state["loss_scaler"]["scale"] > 1
    assert all(line["train/grad_norm"] < 100 for line in metrics(tmp_path) if "train/grad_norm" in line)
