from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.modeling.flops import training_flops_per_token
from pipeline.training.recording import throughput
from pipeline.training.recording.peak_flops import Peak
from pipeline.training.recording.throughput import Meter

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    return LlamaForCausalLM(config)


def set_clock(monkeypatch: pytest.MonkeyPatch, *readings: float) -> None:
    """What the meter's clock says, one after the other."""
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=iter(readings).__next__))


def test_time_is_split_into_phases_and_utilization_follows_from_the_peak(model, monkeypatch):
    meter = Meter(model, 8, Peak(1e9, "measured", "test"), CPU, world_size=2)
    # Two steps, 5 s apart: data 1 s, forward and backward 2 and 4 s, optimizer 0 s, the rest 0.5 s.
    set_clock(monkeypatch, 0.0, 1.0, 3.0, 3.0, 3.5, 8.5, 9.5, 13.5, 13.5, 14.0)
    for _ in range(2):
        meter.start()
        for phase in ("data", "forward_backward", "optimizer"):
            meter.mark(phase)
        meter.stop(100)
    values = meter.read()
    times = {tag: value for tag, value in values.items() if tag.startswith("time/")}
    assert times == {
        "time/data_seconds": 1.0,
        "time/forward_backward_seconds": 3.0,
        "time/optimizer_seconds": 0.0,
        "time/rest_seconds": 0.5,
    }
    assert values["throughput/tokens_per_second"] == pytest.approx(200 / 9)
    assert values["throughput/mfu"] == pytest.approx(200 / 9 * training_flops_per_token(model, 8) / 2e9)
    assert values["throughput/peak_flops_per_second"] == 2e9
    assert 50e6 < values["memory/peak_bytes"] < 50e9


def test_each_record_begins_anew(model, monkeypatch):
    meter = Meter(model, 8, Peak(1e9, "measured", "test"), CPU, world_size=1)
    set_clock(monkeypatch, 0.0, 30.0, 30.0, 30.0, 31.0, 31.0)
    seconds = []
    for _ in range(2):
        meter.start()
        meter.mark("data")
        meter.stop(1)
        seconds.append(meter.read()["time/data_seconds"])
    assert seconds == [30.0, 1.0]
