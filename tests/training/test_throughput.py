from __future__ import annotations

import time

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.modeling.flops import training_flops_per_token
from pipeline.training.throughput import Meter, Peak, known_peak, peak_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    return LlamaForCausalLM(config)


def test_time_is_split_into_phases_and_utilization_follows_from_the_peak(model):
    meter = Meter(model, 8, Peak(1e9, "test"), CPU, num_processes=2)
    for _ in range(2):
        time.sleep(0.05)  # between steps, which is no part of them
        meter.start()
        time.sleep(0.01)
        meter.mark("data")
        time.sleep(0.02)
        meter.mark("forward_backward")
        meter.mark("optimizer")
        meter.stop(100)
    values = meter.read()
    assert 0.01 <= values["time/data_seconds"] < 0.02 <= values["time/forward_backward_seconds"] < 0.05
    assert values["time/optimizer_seconds"] < 0.005
    steps = sum(value for tag, value in values.items() if tag.startswith("time/"))
    speed = values["throughput/tokens_per_second"]
    assert speed == pytest.approx(100 / steps, rel=0.05)
    assert values["throughput/mfu"] == pytest.approx(speed * training_flops_per_token(model, 8) / 2e9)
    assert 50e6 < values["memory/peak_bytes"] < 50e9


def test_each_record_begins_anew(model):
    meter = Meter(model, 8, Peak(1e9, "test"), CPU, num_processes=1)
    for seconds in (0.03, 0.0):
        meter.start()
        time.sleep(seconds)
        meter.mark("data")
        meter.stop(1)
        values = meter.read()
    assert values["time/data_seconds"] < 0.01


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_peak_of_a_cpu_is_measured_without_touching_random_numbers(precision):
    state = torch.get_rng_state()
    began = time.perf_counter()
    peak = peak_of(CPU, precision)
    assert time.perf_counter() - began < 3
    assert 1e8 < peak.flops_per_second < 1e15
    assert "measured" in peak.source
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "kind", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989),
        ("NVIDIA H100 PCIe", "bf16", 756),
        ("NVIDIA A100-SXM4-40GB", "tf32", 156),
        ("NVIDIA L40S", "bf16", 362),
        ("NVIDIA L4", "fp16", 121),
        ("Tesla V100-SXM2-16GB", "fp16", 125),
        ("NVIDIA GeForce RTX 4090", "bf16", 165),
        ("AMD Instinct MI300X", "bf16", 1307),
    ],
)
def test_known_devices(name, kind, tera):
    assert known_peak(name, kind) == tera * 1e12


def test_what_no_data_sheet_tells_is_not_guessed():
    assert known_peak("Tesla V100-SXM2-16GB", "bf16") is None
    assert known_peak("NVIDIA RTX A4000", "bf16") is None
