from __future__ import annotations

from pathlib import Path

import pytest
import torch
from evaluation.tiny import tiny_model

from pipeline.evaluation.models import load_trained, pick_device


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_keeps_its_precision(tmp_path: Path, dtype: torch.dtype, capfd: pytest.CaptureFixture[str]) -> None:
    saved = tiny_model().to(dtype)
    saved.save_pretrained(tmp_path)
    capfd.readouterr()
    model = load_trained(tmp_path, torch.device("cpu"))
    assert not model.training
    for before, after in zip(saved.parameters(), model.parameters(), strict=True):
        assert after.dtype == dtype
        assert torch.equal(before, after)
    assert capfd.readouterr() == ("", "")


@pytest.mark.gpu
def test_a_gpu_is_used_if_there_is_one() -> None:
    assert pick_device().type == "cuda"
