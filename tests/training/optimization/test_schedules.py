from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from transformers import get_scheduler

from pipeline.errors import ConfigError
from pipeline.training.optimization.optimization_config import NEVER_END, SCHEDULER_KWARGS
from pipeline.training.optimization.schedules import (
    check_phases,
    learning_rate,
    num_common_steps,
    num_lasting_steps,
    num_warmup_steps,
)
from pipeline.training.train_config import TrainConfig

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


def transformers_rates(kind: str, warmup: int, kwargs: dict[str, object], max_steps: int = MAX_STEPS) -> list[float]:
    """As its Trainer has them: the rate of the optimizer, one scheduler step after each update."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = get_scheduler(kind, optimizer, warmup, max_steps, dict(kwargs))
    rates = []
    for _ in range(max_steps + 3):
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
    assert rates == expected


def test_rates_from_the_formulas_of_the_papers():
    """Half a cosine (Loshchilov & Hutter 2017) and a line, after a line up."""
    for step in range(MAX_STEPS):
        done = (step - WARMUP) / (MAX_STEPS - WARMUP)
        fall = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done}
        for kind, part in fall.items():
            expected = PEAK * (step / WARMUP if step < WARMUP else part)
            assert learning_rate(section_of(kind), step, MAX_STEPS) == pytest.approx(expected, rel=1e-12)
            floored = section_of(kind).model_copy(update={"min_lr_ratio": 0.25})
            expected = PEAK * (step / WARMUP if step < WARMUP else 0.25 + 0.75 * part)
            assert learning_rate(floored, step, MAX_STEPS) == pytest.approx(expected, rel=1e-12)


def test_a_polynomial_ends_below_where_it_begins():
    with pytest.raises(ValidationError, match="lr_end 1e-07 is not below learning_rate 1e-07"):
        TrainConfig(max_steps=1, lr_scheduler_type="polynomial", learning_rate=1e-7)
    section = TrainConfig(max_steps=1, lr_scheduler_type="polynomial", learning_rate=1e-7, min_lr_ratio=1.0)
    assert learning_rate(section, 1, 2) == 1e-7
    only_warmup = TrainConfig(max_steps=4, warmup_steps=4, lr_scheduler_type="polynomial", learning_rate=PEAK)
    assert learning_rate(only_warmup, 4, 4) == PEAK


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


@pytest.mark.parametrize("taken", [15, 9])
@pytest.mark.parametrize("kind", sorted(SCHEDULER_KWARGS.keys() - {*NEVER_END}))
def test_a_rewarmed_rate_rises_from_where_the_schedules_before_ended_and_follows_it_anew(kind, taken):
    """An earlier training of 15 steps, of which 9 were taken where it stopped early; then one of 40, then one of 60."""
    kwargs = NEED.get(kind, {})

    def rise(low: float, steps: int) -> list[float]:
        return [low + (PEAK - low) * step / steps for step in range(steps)]

    first = transformers_rates(kind, WARMUP, kwargs, 15)
    second = rise(first[taken], 5) + transformers_rates(kind, 0, kwargs, 40 - taken - 5)
    third = rise(second[40 - taken], 3) + transformers_rates(kind, 0, kwargs, 60 - 40 - 3)
    origin = [{"steps": taken, "schedule_steps": 15}]
    section = section_of(kind, **kwargs).model_dump() | {"rewarm_steps": 5, "rewarm_from": origin}
    once = TrainConfig(**section)
    rates = [learning_rate(once, step, 40) for step in range(43)]
    assert rates == pytest.approx(first[:taken] + second, rel=1e-12, abs=1e-12)
    origin = [*origin, {"steps": 40, "schedule_steps": 40, "rewarm_steps": 5}]
    twice = TrainConfig(**section | {"rewarm_steps": 3, "rewarm_from": origin})
    rates = [learning_rate(twice, step, 60) for step in range(63)]
    assert rates == pytest.approx(first[:taken] + second[: 40 - taken] + third, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("kind", ["cosine", "linear", "warmup_stable_decay"])
def test_steps_in_common_are_those_with_equal_rates(kind):
    def run(steps: int, *origin: tuple[int, int, int | None], rewarm: int | None = None) -> tuple[TrainConfig, int]:
        ends = [{"steps": a, "schedule_steps": b, "rewarm_steps": c} for a, b, c in origin]
        values = section_of(kind).model_dump() | {"max_steps": steps, "rewarm_steps": rewarm, "rewarm_from": ends}
        return TrainConfig(**values), steps

    runs = [
        run(20),
        run(30),
        run(40, (20, 20, None), rewarm=3),
        run(50, (20, 20, None), rewarm=3),
        run(40, (20, 20, None), rewarm=5),
        run(40, (18, 20, None), rewarm=3),
        run(60, (20, 20, None), (40, 40, 3), rewarm=3),
        run(60, (20, 20, None), (37, 40, 3), rewarm=2),
    ]
    for one, steps in runs:
        for other, other_steps in runs:
            common = num_common_steps(one, steps, other, other_steps)
            pairs = [
                (learning_rate(one, step, steps), learning_rate(other, step, other_steps))
                for step in range(min(steps, other_steps))
            ]
            equal = next((step for step, (a, b) in enumerate(pairs) if a != b), len(pairs))
            # At the first step of a rise, rates are still those of the schedule before.
            assert min(common, len(pairs)) in (equal, equal - 1)
            assert common == num_common_steps(other, other_steps, one, steps)


def test_a_rewarming_longer_than_the_run_is_refused():
    origin = [{"steps": 20, "schedule_steps": 20}]
    values = section_of("cosine").model_dump() | {"rewarm_steps": 4, "rewarm_from": origin}
    with pytest.raises(ConfigError, match=r"train.rewarm_steps 4 after the first 20 steps are more than the 23 steps"):
        check_phases(TrainConfig(**values), MAX_STEPS)
    check_phases(TrainConfig(**values), MAX_STEPS + 1)
    values = section_of("warmup_stable_decay").model_dump() | {"rewarm_steps": 4, "rewarm_from": origin}
    with pytest.raises(ConfigError, match=r"rewarm_steps 4 and num_decay_steps 6 after the first 20 steps are more"):
        check_phases(TrainConfig(**values), 29)
    check_phases(TrainConfig(**values), 30)


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
        ({"lr_scheduler_type": "constant", "rewarm_steps": 2}, "a longer training goes on by itself; remove it"),
        ({"rewarm_from": [{"steps": 2, "schedule_steps": 2}]}, "rewarm_from needs rewarm_steps"),
        ({"warmup_steps": 2, "warmup_ratio": 0.1}, "warmup_steps and warmup_ratio are both given"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        TrainConfig(max_steps=10, **values)
