"""What `descent estimate` says, against closed forms, torch's counter, and its own longer way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner
from yardsticks import assert_costs_at_most, cost_of_command

from pipeline.cli import app
from pipeline.config.loading import load_config
from pipeline.errors import ConfigError
from pipeline.planning import estimate
from pipeline.planning.devices import device_named
from pipeline.planning.estimate import Estimator, Hardware
from pipeline.planning.estimate_text import format_estimate
from pipeline.training.recording.peak_flops import Peak

SHAPES: dict[str, str] = {
    "llama": "{hidden_size: 64, intermediate_size: 96, num_hidden_layers: 3, num_attention_heads: 4}",
    "gpt2": "{n_embd: 64, n_layer: 3, n_head: 4}",
    "mixtral": "{hidden_size: 64, intermediate_size: 96, num_hidden_layers: 3, num_attention_heads: 4, "
    "num_key_value_heads: 2}",
    "grok1": "{hidden_size: 64, num_hidden_layers: 3, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 16}",
}
YAML = """\
run: {{name: x}}
ingest: {{sources: [{{name: docs, type: python_docs}}]}}
tokenizer: {{vocab_size: 512}}
pack: {{block_size: 64}}
model: {{architecture: {architecture}, config: {config}}}
train: {{max_steps: 100, global_batch_size: 16, mixed_precision: bf16}}
"""


@pytest.fixture
def estimated(tmp_path: Path) -> Any:
    def run(
        architecture: str,
        *overrides: str,
        devices: int = 1,
        device: str = "H100",
        utilization: float | None = 0.4,
    ) -> dict[str, Any]:
        path = tmp_path / "x.yaml"
        path.write_text(YAML.format(architecture=architecture, config=SHAPES[architecture]))
        return Estimator(load_config(path, overrides), Hardware(device_named(device), devices, utilization)).result()

    return run


@pytest.mark.parametrize("architecture", SHAPES)
def test_formula_and_torchs_counter_agree(estimated: Any, architecture: str) -> None:
    flops = estimated(architecture)["flops_per_token"]
    assert flops["forward_counted"] == pytest.approx(flops["forward"], rel=0.01)
    assert flops["forward_and_backward"] == pytest.approx(3 * flops["forward"])


@pytest.mark.parametrize(("task", "outputs"), [("classification", 2), ("regression", 1)])
def test_a_head_over_labels_is_estimated(estimated: Any, task: str, outputs: int) -> None:
    source = "ingest.sources=[{name: x, type: jsonl, paths: [x.jsonl], label_field: label}]"
    found = estimated("llama", f"model.task={task}", source)
    assert found["parameters"]["parts"]["score"] == 64 * outputs
    assert found["flops_per_token"]["forward_counted"] == pytest.approx(found["flops_per_token"]["forward"], rel=0.01)


def test_parameters_add_up_and_a_mixture_uses_some_of_them(estimated: Any) -> None:
    parameters = estimated("grok1")["parameters"]
    width, inner, experts, chosen, layers = 64, 344, 8, 2, 3
    layer = 2 * width * 64 + 2 * width * 32 + width * experts + 3 * experts * width * inner + 4 * width
    assert parameters["total"] == 512 * width + width + layers * layer == sum(parameters["parts"].values())
    assert parameters["active"] == parameters["total"] - layers * 3 * (experts - chosen) * width * inner


def test_deep_models_are_estimated_from_shallow_ones(estimated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "model.config.num_hidden_layers=14"
    short = estimated("mixtral", deep, devices=4)
    monkeypatch.setattr(estimate, "ALIKE", (20, 40))  # so that all 14 blocks are simulated
    long = estimated("mixtral", deep, devices=4)
    assert short["flops_per_token"] == pytest.approx(long["flops_per_token"])
    for scheme, figures in long["memory"].items():
        assert short["memory"][scheme]["total_bytes"] == pytest.approx(figures["total_bytes"], rel=0.001), scheme


def test_each_scheme_saves_what_it_is_for(estimated: Any) -> None:
    memory = estimated("llama", "model.config.num_hidden_layers=8", devices=4)["memory"]
    assert {name: figures["num_devices"] for name, figures in memory.items()} == {
        "one_device": 1, "ddp": 4, "fsdp2": 4, "lora": 1,
    }  # fmt: skip
    one, ddp, fsdp, lora = (figures["parts_bytes"] for figures in memory.values())
    assert one["gradients"] == pytest.approx(one["weights"], rel=0.01)  # alone it accumulates four batches
    assert ddp["gradients"] == one["gradients"]
    assert fsdp["optimizer"] == one["optimizer"] // 4
    assert fsdp["weights"] < one["weights"]
    assert lora["optimizer"] < one["optimizer"] / 2
    assert lora["weights"] > one["weights"]


def test_checkpointing_and_smaller_batches_need_fewer_activations(estimated: Any) -> None:
    def activations(*overrides: str) -> int:
        return estimated("llama", *overrides)["memory"]["one_device"]["parts_bytes"]["activations"]

    plain = activations("train.per_device_train_batch_size=16")
    assert activations("train.per_device_train_batch_size=4") == pytest.approx(plain / 4, rel=0.1)
    assert activations("train.gradient_checkpointing=true") < plain / 2


@pytest.mark.parametrize(
    ("optim", "bytes_each"),
    [
        ("adamw_torch", 8), ("sgd", 4), ("NAdam", 8), ("adafactor", 0), ("Adafactor", 0), ("lion_32bit", 4),
        ("adamw_8bit", 2), ("paged_ademamix_8bit", 3),
    ],
)  # fmt: skip
def test_every_kind_of_optimizer_has_its_state(estimated: Any, optim: str, bytes_each: int) -> None:
    found = estimated("llama", f"train.optim={optim}", "tokenizer.vocab_size=65536")
    state = found["memory"]["one_device"]["parts_bytes"]["optimizer"] / found["parameters"]["total"]
    assert state == pytest.approx(bytes_each, abs=0.1)


def test_frozen_parts_have_no_gradient_and_no_optimizer(estimated: Any) -> None:
    whole, part = estimated("llama"), estimated("llama", "train.freeze=[layers]")
    assert part["parameters"]["trainable"] == 2 * 512 * 64 + 64
    assert part["parameters"]["total"] == whole["parameters"]["total"]
    assert part["memory"]["one_device"]["parts_bytes"]["optimizer"] == pytest.approx(8 * (2 * 512 * 64 + 64), rel=0.01)
    assert part["flops_per_token"]["forward_and_backward"] < whole["flops_per_token"]["forward_and_backward"]


def test_half_precisions_need_the_same_memory(estimated: Any) -> None:
    half, other = (estimated("llama", f"train.mixed_precision={kind}")["memory"] for kind in ("bf16", "fp16"))
    assert half == other
    full = estimated("llama", "train.mixed_precision=no")["memory"]["one_device"]["parts_bytes"]
    assert full["activations"] > 1.3 * half["one_device"]["parts_bytes"]["activations"]


@pytest.mark.parametrize(("device", "precision"), [("H100", "bf16"), ("A10G", "bf16"), ("T4", "no"), ("V100", "no")])
def test_auto_is_what_the_estimated_device_multiplies(
    estimated: Any, monkeypatch: pytest.MonkeyPatch, device: str, precision: str
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2" if precision == "bf16" else "ALL")  # of this machine: no matter
    chosen, written = (
        estimated("llama", f"train.mixed_precision={kind}", device=device) for kind in ("auto", precision)
    )
    assert chosen == written
    assert chosen["mixed_precision"] == precision
    assert f"TFLOP/s each in {'bf16' if precision == 'bf16' else 'float32'}: " in format_estimate(chosen)


def test_the_vocabulary_of_characters_is_a_bound(estimated: Any) -> None:
    assert format_estimate(estimated("gpt2", "tokenizer.type=characters")).startswith("gpt2 with at most 512 tokens")
    assert format_estimate(estimated("gpt2")).startswith("gpt2 with 512 tokens")


def test_a_larger_batch_in_validation_counts(estimated: Any) -> None:
    few, many = (estimated("llama", f"train.per_device_eval_batch_size={size}") for size in (16, 512))
    assert many["memory"]["one_device"]["total_bytes"] > 2 * few["memory"]["one_device"]["total_bytes"]


def test_time_follows_from_the_flops(estimated: Any) -> None:
    one = estimated("llama")
    eight = estimated("llama", devices=8)
    assert one["time"]["tokens"] == 100 * 16 * 64
    assert one["time"]["tokens_per_second"] == pytest.approx(
        0.4 * 989e12 / one["flops_per_token"]["forward_and_backward"]
    )
    exact = estimated("llama", "train.mixed_precision=no")  # products in float32, not in TF32
    assert exact["time"]["tokens_per_second"] == pytest.approx(67 / 989 * one["time"]["tokens_per_second"])
    assert eight["time"]["days"] == pytest.approx(one["time"]["days"] / 8)


def test_time_is_a_bound_where_training_may_stop_early(estimated: Any) -> None:
    bound = "seconds at most, if training does not stop early"
    plain, early = (
        format_estimate(estimated("llama", *settings)).splitlines()
        for settings in ((), ("train.eval_steps=10", "train.early_stopping_patience=3"))
    )
    assert [line.endswith("seconds") for line in plain if line.startswith("102,400 tokens take")] == [True]
    assert [line.endswith(bound) for line in early if line.startswith("102,400 tokens take")] == [True]


LONG = ("pack.block_size=16384", "model.config.max_position_embeddings=16384", "train.per_device_train_batch_size=16")
WIDE = ("model.config.hidden_size=4096", "model.config.intermediate_size=14336", "model.config.num_hidden_layers=8")


@pytest.mark.parametrize(
    ("architecture", "overrides", "devices", "first"),
    [
        ("llama", (*LONG, "model.config.num_hidden_layers=8", "tokenizer.vocab_size=8192"), 1, "one_device"),
        ("grok1", LONG, 1, "one_device"),
        pytest.param("llama", WIDE, 2, "fsdp2", marks=pytest.mark.slow),
    ],
)
def test_what_is_advised_fits(
    estimated: Any, architecture: str, overrides: tuple[str, ...], devices: int, first: str
) -> None:
    large = estimated(architecture, *overrides, device="L4", devices=devices)
    assert not any(figures["fits"] for scheme, figures in large["memory"].items() if scheme != "lora")
    told = format_estimate(large)
    assert "to make it fit:" in told
    assert large["advice"][0]["scheme"] == first
    for advice in large["advice"]:
        if advice["scheme"] != "lora":
            changes = [f"train.{name}={json.dumps(value)}" for name, value in advice["settings"].items()]
            number = max(devices, advice["num_devices"])
            mended = estimated(architecture, *overrides, *changes, device="L4", devices=number)
            assert mended["memory"][advice["scheme"]]["fits"], advice
            assert mended["advice"] == []
            assert all(change.replace('"', "") in told for change in changes)


def test_what_fits_nowhere_is_told_so(estimated: Any) -> None:
    layers = "model.config.num_hidden_layers=1"
    wide = (
        layers,
        "model.config.hidden_size=16384",
        "model.config.intermediate_size=131072",
        "train.mixed_precision=fp16",
    )
    found = estimated("llama", *wide, device="T4")
    assert [advice for advice in found["advice"] if advice["scheme"] != "lora"] == []
    assert "one block with its activations is larger than such a device" in format_estimate(found)


@pytest.mark.parametrize(
    ("overrides", "device", "devices", "message"),
    [
        ((), "H1000", 1, r"--device: 'H1000' is not known; did you mean H100\?"),
        ((), "T4", 1, "--device: T4 does not compute in bf16; take another device or train.mixed_precision=fp16"),
        ((), "H100", 3, "train.global_batch_size 16 is not a multiple of the 3 processes"),
        (("model.config.hiden_size=3",), "H100", 1, "did you mean hidden_size"),
        (("pack.block_size=4096",), "H100", 1, "pack.block_size 4096 is more than the model's 2048 positions"),
        (("train.freeze=[emblem]",), "H100", 1, "train.freeze.0: 'emblem' is in the name of no parameter"),
    ],
)
def test_mistakes_are_told(estimated: Any, overrides: tuple[str, ...], device: str, devices: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        estimated("llama", *overrides, device=device, devices=devices)


@pytest.mark.slow
def test_grok1_as_released_is_estimated_in_little_time_and_memory() -> None:
    root = Path(__file__).parents[2]
    asked = ["--devices", "512", "--device", "H200", "--json"]
    command = [sys.executable, "-m", "pipeline", "estimate"]
    done = subprocess.run(
        [*command, "configs/grok1_314b.yaml", *asked], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["parameters"]["total"] == 315_684_820_992
    assert result["parameters"]["active"] == 83_756_587_008
    assert result["memory"]["fsdp2"]["fits"]

    peaks: dict[str, int] = {}

    def cost(name: str) -> float:
        options = (*asked, "train.global_batch_size=512")
        seconds, peaks[name] = cost_of_command(*command, f"configs/{name}.yaml", *options, cwd=root)
        return seconds

    # 53,000 times the parameters of the small one take 1.6 times as long and 1.05 times the memory: nothing is made
    # of that size, and of 64 equal blocks only two depths are simulated.
    assert_costs_at_most(4, lambda: cost("grok1_314b"), lambda: cost("grok1_tiny"))
    assert peaks["grok1_314b"] < 2 * peaks["grok1_tiny"]


def test_the_processor_of_this_machine_bounds_the_time(estimated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its measured peak; a share of it is told only where somebody gives one."""
    monkeypatch.setattr(estimate, "peak_of", lambda device, precision: Peak(2e9, "measured", precision))
    found = estimated("llama", "train.mixed_precision=no", device="cpu", utilization=None)
    flops = found["flops_per_token"]["forward_and_backward"]
    assert found["time"]["tokens_per_second"] == pytest.approx(2e9 / flops)
    assert found["time"]["days"] * 86400 == pytest.approx(100 * 16 * 64 * flops / 2e9)
    assert found["hardware"]["memory_bytes"] == psutil.virtual_memory().total
    told = format_estimate(found)
    assert f"this CPU at all of 2 GFLOP/s, measured now, in float32: at most {2e9 / flops:,.0f} tokens/s" in told
    assert "at least: no training reaches all of it\nwhich share it reaches shows in training" in told
    assert "that the CPU of this machine has" in told
    told = format_estimate(estimated("llama", "train.mixed_precision=no", device="cpu", utilization=0.5))
    assert f"this CPU at 50% of 2 GFLOP/s, measured now, in float32: {1e9 / flops:,.0f} tokens/s" in told
    assert "shows in training" not in told


def test_more_than_one_processor_of_this_machine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(YAML.format(architecture="llama", config=SHAPES["llama"]))
    found = CliRunner().invoke(app, ["estimate", str(path), "--device", "cpu", "--devices", "2"])
    assert (found.exit_code, found.stdout) == (78, "")
    assert "--devices: --device cpu is the one of this machine; leave --devices out" in found.stderr
