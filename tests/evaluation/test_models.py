from __future__ import annotations

from pathlib import Path

import pytest
import torch
from evaluation.tiny import tiny_model

from pipeline.evaluation import trained_model
from pipeline.evaluation.trained_model import load_trained, pick_device


@pytest.mark.parametrize(
    ("dtype", "is_native", "loaded"),
    [
        (torch.float32, True, torch.float32),
        (torch.float32, False, torch.float32),
        (torch.bfloat16, True, torch.bfloat16),
        (torch.bfloat16, False, torch.float32),
    ],
)
def test_a_model_keeps_its_precision_unless_it_is_emulated(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    dtype: torch.dtype,
    is_native: bool,
    loaded: torch.dtype,
) -> None:
    monkeypatch.setattr(trained_model, "multiplies_bf16", lambda device: is_native)
    saved = tiny_model().to(dtype)
    saved.save_pretrained(tmp_path)
    capfd.readouterr()
    model = load_trained(tmp_path, torch.device("cpu"))
    assert not model.training
    for before, after in zip(saved.parameters(), model.parameters(), strict=True):
        assert after.dtype == loaded
        assert torch.equal(before.to(loaded), after)
    assert capfd.readouterr() == ("", "")


@pytest.mark.gpu
def test_a_gpu_is_used_if_there_is_one() -> None:
    assert pick_device().type == "cuda"
