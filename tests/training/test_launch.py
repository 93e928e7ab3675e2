"""A launcher that asks for what the configuration does not is refused before anything runs."""

from __future__ import annotations

import pytest

from pipeline.config.train import TrainConfig
from pipeline.errors import ConfigError
from pipeline.training.launch import check_launcher

SECTION = TrainConfig(max_steps=1, mixed_precision="bf16")


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("WORLD_SIZE", "2", "the launcher started 2 processes"),
        ("MASTER_PORT", "29500", "asked for several processes and started one"),
        ("ACCELERATE_MIXED_PRECISION", "fp16", "train.mixed_precision is bf16, but the launcher was given fp16"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "was given a dynamo backend"),
    ],
)
def test_disagreement_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, problem: str) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=problem):
        check_launcher(SECTION)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_agreement_passes(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
    monkeypatch.setenv("WORLD_SIZE", "1")
    check_launcher(SECTION)
