from __future__ import annotations

import pytest

from pipeline.config.train import TrainConfig
from pipeline.training.schedules import learning_rate


def rates(kind: str, min_lr_ratio: float = 0.0) -> list[float]:
    section = TrainConfig(
        max_steps=12, warmup_steps=4, learning_rate=0.8, lr_scheduler_type=kind, min_lr_ratio=min_lr_ratio
    )
    return [learning_rate(section, step, 12) for step in range(13)]


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
def test_warm_up_rises_to_the_full_rate(kind):
    assert rates(kind)[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_shapes_after_the_warm_up():
    assert rates("constant")[4:] == [0.8] * 9
    assert rates("linear")[4:] == pytest.approx([0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    cosine = rates("cosine")
    assert (cosine[4], cosine[8], cosine[12]) == pytest.approx((0.8, 0.4, 0.0))
    assert cosine[6] == pytest.approx(0.8 * 0.853553, rel=1e-5)


def test_min_lr_ratio_is_where_decay_ends():
    assert rates("cosine", 0.25)[12] == pytest.approx(0.2)
    assert rates("linear", 0.25)[8] == pytest.approx(0.5)
