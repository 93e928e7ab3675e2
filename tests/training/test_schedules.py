from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from transformers import get_scheduler

from pipeline.config.optimization import SCHEDULER_KWARGS
from pipeline.config.train import TrainConfig
from pipeline.errors import ConfigError
from pipeline.training.schedules import check_phases, learning_rate, num_lasting_steps, num_warmup_steps

PEAK, WARMUP, MAX_STEPS = 0.8, 4, 23
NEED = {
    "cosine_with_min_lr": {"min_lr_rate": 0.1},
    "cosine_warmup_with_min_lr": {"min_lr": 0.1},
    "warmup_stable_decay": {"num_decay_steps": 6},
}


def section_of(kind: str, warmup: int = WARMUP, **kwargs: object) -> TrainConfig:
    values = {**NEED.get(kind, {}), **kwargs}
    return TrainConfig(
        max_steps=MAX_STEPS, warmup_steps=warmup, learning_rate=PEAK, lr_scheduler_type=kind, lr_scheduler_kwargs=values
    )


def transformers_rates(kind: str, warmup: int, kwargs: dict[str, object]) -> list[float]:
    """As its Trainer has them: the rate of the optimizer, one scheduler step after each update."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = get_scheduler(kind, optimizer, warmup, MAX_STEPS, dict(kwargs))
    rates = []
    for _ in range(MAX_STEPS + 3):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("kind", "warmup", "kwargs"),
    [
        *((kind, WARMUP, {}) for kind in SCHEDULER_KWARGS if kind != "constant"),
        *((kind, 0, {}) for kind in SCHEDULER_KWARGS),
        ("cosine", WARMUP, {"num_cycles": 1.5}),
        ("cosine_with_restarts", WARMUP, {"num_cycles": 3}),
        ("polynomial", WARMUP, {"power": 2.0, "lr_end": 0.01}),
        ("inverse_sqrt", WARMUP, {"timescale": 7}),
        ("cosine_with_min_lr", WARMUP, {"num_cycles": 1.0}),
        ("cosine_warmup_with_min_lr", WARMUP, {"warmup_lr_rate": 0.25}),
        ("warmup_stable_decay", WARMUP, {"num_stable_steps": 5, "min_lr_ratio": 0.1}),
        ("warmup_stable_decay", WARMUP, {"warmup_type": "cosine", "decay_type": "linear"}),
        ("warmup_stable_decay", WARMUP, {"warmup_type": "1-sqrt", "decay_type": "1-sqrt", "min_lr_ratio": 0.2}),
        ("warmup_stable_decay", WARMUP, {"decay_type": "cosine", "num_cycles": 0.75}),
    ],
)
def test_every_rate_is_that_of_transformers(kind, warmup, kwargs):
    section = section_of(kind, warmup, **kwargs)
    rates = [learning_rate(section, step, MAX_STEPS) for step in range(MAX_STEPS + 3)]
    expected = transformers_rates(kind, warmup, {**NEED.get(kind, {}), **kwargs})
    # Twelve digits: both are a handful of float64 operations, in another order.
    assert rates == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("kind", ["linear", "cosine", "cosine_with_restarts", "polynomial", "warmup_stable_decay"])
def test_min_lr_ratio_is_where_decay_ends(kind):
    section = section_of(kind).model_copy(update={"min_lr_ratio": 0.25})
    assert learning_rate(section, MAX_STEPS, MAX_STEPS) == pytest.approx(0.25 * PEAK)
    assert learning_rate(section, WARMUP, MAX_STEPS) == PEAK


def test_a_warm_up_may_be_a_part_of_the_run():
    section = TrainConfig(max_steps=30, warmup_ratio=0.15, learning_rate=PEAK)
    assert num_warmup_steps(section, 30) == 5  # 4.5
    assert learning_rate(section, 5, 30) == PEAK
    assert learning_rate(section, 1, 30) == pytest.approx(PEAK / 5)


def test_constant_warms_up_where_asked():
    assert [learning_rate(section_of("constant"), step, MAX_STEPS) for step in (0, 2, 4, 9)] == [0, 0.4, 0.8, 0.8]


@pytest.mark.parametrize("kind", SCHEDULER_KWARGS)
def test_rates_of_lasting_steps_do_not_depend_on_the_length(kind):
    section = section_of(kind)
    short, long = ([learning_rate(section, step, length) for step in range(MAX_STEPS)] for length in (MAX_STEPS, 40))
    lasting = num_lasting_steps(section, MAX_STEPS)
    assert num_lasting_steps(section, 40) >= lasting
    if kind in ("constant", "constant_with_warmup", "inverse_sqrt"):
        assert lasting == math.inf
        assert short == long
    else:
        assert lasting == (17 if kind == "warmup_stable_decay" else WARMUP)
        assert short[:lasting] == long[:lasting]
        assert short[lasting : lasting + 2] != long[lasting : lasting + 2]


def test_rates_without_a_reference_to_the_length_last_and_those_with_one_do_not():
    assert num_lasting_steps(section_of("warmup_stable_decay", num_stable_steps=5), MAX_STEPS) == math.inf
    values = {"max_steps": MAX_STEPS, "warmup_ratio": 0.1, "lr_scheduler_type": "constant"}
    assert num_lasting_steps(TrainConfig(**values), MAX_STEPS) == 0


def test_phases_longer_than_the_run_are_refused():
    section = section_of("warmup_stable_decay", num_decay_steps=20)
    with pytest.raises(ConfigError, match=r"num_decay_steps 20 and a warm-up of 4 are more than the 23 steps"):
        check_phases(section, MAX_STEPS)
    check_phases(section, MAX_STEPS + 1)
    with pytest.raises(ConfigError, match=r"train.warmup_steps 4 is more than the 3 steps"):
        check_phases(section_of("cosine"), 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "follows the losses of the run"),
        ({"lr_scheduler_type": "greedy"}, "follows the losses of the run"),
        (
            {"lr_scheduler_type": "linear", "lr_scheduler_kwargs": {"power": 2}},
            "power is not for linear; it takes none",
        ),
        ({"lr_scheduler_kwargs": {"min_lr": 0.1}}, "min_lr is not for cosine; it takes num_cycles"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "needs lr_scheduler_kwargs.min_lr_rate"),
        (
            {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1}, "min_lr_ratio": 0.5},
            "min_lr_ratio and lr_scheduler_kwargs.min_lr are both given",
        ),
        (
            {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1}},
            "min_lr 1.0 is more than learning_rate 0.001",
        ),
        ({"lr_scheduler_type": "constant", "min_lr_ratio": 0.5}, "constant has no end"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "needs lr_scheduler_kwargs.num_decay_steps"),
        ({"warmup_steps": 2, "warmup_ratio": 0.1}, "warmup_steps and warmup_ratio are both given"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        TrainConfig(max_steps=10, **values)
