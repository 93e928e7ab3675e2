"""Loss and gradient are normalized by the target tokens of the whole global batch."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training.tiny import LLAMA, make_tokenizer

from pipeline.config.model import ModelConfig
from pipeline.config.train import TrainConfig
from pipeline.modeling.build import build_model, load_tokenizer
from pipeline.progress import Progress
from pipeline.training import loop
from pipeline.training.loop import train

TOLERANCE = 1e-6
"""Relative; float32 has 6e-8 a rounding, and a sum of some hundred terms in another order loses a few of them."""


class RaggedSplit:
    """Eight windows of very different lengths, padded on the right."""

    lengths = (16, 1, 3, 15, 16, 2, 9, 1)

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, indices: Iterable[int]) -> dict[str, np.ndarray]:
        random = np.random.default_rng(0)
        ids = random.integers(2, 64, (len(self.lengths), 17))
        input_ids, labels = ids[:, :-1].copy(), ids[:, 1:].copy()
        for row, length in enumerate(self.lengths):
            input_ids[row, length:], labels[row, length:] = 0, -100
        chosen = list(indices)
        return {"input_ids": input_ids[chosen], "labels": labels[chosen]}


def gradient(tmp_path: Path, device_batch: int) -> torch.Tensor:
    """The gradient of the first global batch: what one step of plain descent with a rate of 1 takes away."""
    folder = tmp_path / "tokenizer"
    if not folder.exists():
        make_tokenizer(folder)
    model = build_model(ModelConfig(config=LLAMA), load_tokenizer(folder), seed=1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    section = TrainConfig(
        max_steps=1,
        global_batch_size=8,
        per_device_train_batch_size=device_batch,
        optim="sgd",
        momentum=0.0,
        weight_decay=0.0,
        learning_rate=1.0,
        max_grad_norm=None,
    )
    split: Any = RaggedSplit()
    work = tmp_path / f"work{device_batch}"
    train(section, model, split, split, seed=0, work=work, progress=Progress("test"))
    pairs = zip(before, model.parameters(), strict=True)
    return torch.cat([(old - new.detach()).flatten() for old, new in pairs])


def relative_error(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("device_batch", [4, 2, 1])
def test_gradient_is_the_same_for_any_accumulation(tmp_path, device_batch):
    assert relative_error(gradient(tmp_path, device_batch), gradient(tmp_path, 8)) < TOLERANCE


def test_mean_of_means_would_be_noticed(tmp_path, monkeypatch):
    whole = gradient(tmp_path, 8)
    original = torch.nn.functional.cross_entropy

    def mean_of_means(logits, labels, **kwargs):
        return original(logits, labels, ignore_index=-100, reduction="mean") * 63 / 4

    monkeypatch.setattr(loop.functional, "cross_entropy", functools.wraps(original)(mean_of_means))
    assert relative_error(gradient(tmp_path, 2), whole) > 1e-2
