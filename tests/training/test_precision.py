"""What torch says of a device is compared with what was chosen, and an emulated bf16 is told of."""

from __future__ import annotations

import pytest
import torch
from harness import tells

from pipeline.distributed.parallel_dims import ParallelDims
from pipeline.errors import ConfigError
from pipeline.machine import bf16_support
from pipeline.modeling.bf16 import multiplies_bf16
from pipeline.training import precision
from pipeline.training.numerics import numerics_of
from pipeline.training.precision import check_precision
from pipeline.training.train_config import TrainConfig

CPU = torch.device("cpu")


def section(value: str) -> TrainConfig:
    return TrainConfig(max_steps=1, mixed_precision=value)


def test_torch_agrees_with_the_choice_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for environ in ({}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}):
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        support = bf16_support({"ACCELERATE_USE_CPU": "true", **environ})
        assert multiplies_bf16(CPU) == support.is_native
        chosen = "bf16" if support.is_native else "no"
        check_precision(section(chosen), {"mixed_precision": chosen}, CPU, pytest.fail)


@pytest.mark.parametrize(
    ("chosen", "is_native", "problem"),
    [
        ("bf16", False, "auto came to bf16, but torch says that the CPU does not multiply bf16 natively; write bf16"),
        ("no", True, "auto came to no, but torch says that the CPU multiplies bf16 natively; write bf16 or no"),
    ],
)
def test_a_process_whose_device_is_unlike_ends(
    monkeypatch: pytest.MonkeyPatch, chosen: str, is_native: bool, problem: str
) -> None:
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: is_native)
    with pytest.raises(ConfigError, match=problem):
        check_precision(section(chosen), {"mixed_precision": chosen}, CPU, None)
    check_precision(section("no"), {}, CPU, pytest.fail)  # written down: nothing to compare


def test_an_emulated_bf16_is_said_by_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: False)
    monkeypatch.setattr(precision, "slowdown", lambda device: 17.25)
    said: list[str] = []
    check_precision(section("bf16"), {}, CPU, None)
    check_precision(section("bf16"), {}, CPU, said.append)
    (line,) = said
    assert tells(line, "train.mixed_precision is bf16", "the CPU only emulates", "17.2 times", "write auto or no")
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: True)
    check_precision(section("bf16"), {}, CPU, pytest.fail)


def test_muon_is_told_of_where_its_bf16_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "slowdown", lambda device: 17.25)
    muon = TrainConfig(max_steps=1, mixed_precision="no", optim="muon")
    said: list[str] = []
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: False)
    check_precision(muon, {"mixed_precision": "no"}, CPU, said.append)
    (line,) = said
    assert "muon" in line
    assert "17.2 times" in line
    assert "adamw_torch_fused" in line
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: True)
    check_precision(muon, {}, CPU, pytest.fail)


def test_the_instructions_of_the_processor_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that goes on where they are others is told that last bits may differ."""
    found = []
    for capability in ("AVX2", "AVX512"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda name=capability: name)
        found.append(numerics_of(section("no"), CPU, ParallelDims())["device"])
    assert [name.split()[-1] for name in found] == ["AVX2", "AVX512"]
