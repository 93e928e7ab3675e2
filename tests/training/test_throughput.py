from __future__ import annotations

import time

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.modeling.flops import training_flops_per_token
from pipeline.training.peaks import Peak
from pipeline.training.throughput import Meter

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    return LlamaForCausalLM(config)


def test_time_is_split_into_phases_and_utilization_follows_from_the_peak(model):
    meter = Meter(model, 8, Peak(1e9, "measured", "test"), CPU, num_processes=2)
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
    assert values["throughput/peak_flops_per_second"] == 2e9
    assert 50e6 < values["memory/peak_bytes"] < 50e9


def test_each_record_begins_anew(model):
    meter = Meter(model, 8, Peak(1e9, "measured", "test"), CPU, num_processes=1)
    for seconds in (0.03, 0.0):
        meter.start()
        time.sleep(seconds)
        meter.mark("data")
        meter.stop(1)
        values = meter.read()
    assert values["time/data_seconds"] < 0.01
