"""SIGKILL at any moment: the run goes on to the bits of an undisturbed one, in weights, optimizer and records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from training.tiny import GPT2, make_inputs, outcome, train_in_children

NUM_MOMENTS = 20
TIMES = {
    "forward": (24, 12),
    "update": (12, 12),
    "record": (6, 6),
    "recorded": (6, 6),
    "validation batch": (8, 4),
    "snapshot": (3, 3),
    "tensors": (6, 6),
    "save": (3, 3),
    "digests": (3, 3),
    "saved": (3, 3),
}
"""Where a process may be killed, and how often an undisturbed one of one, and of two, comes there."""

IN_PROCESS_0 = ("tensors", "save", "digests", "saved")

Kill = tuple[str, int, int]
"""Place, how often it has been come to, process."""


def moments(count: int) -> list[list[Kill]]:
    """The kills of 20 runs: the moments that are worst, then random ones."""
    first_epoch_ends = 13 if count == 1 else 7  # 27 windows in batches of 4: inside step 7
    worst: list[list[Kill]] = [
        [("forward", TIMES["forward"][count - 1] - 4, count - 1)],  # with two micro-batches a step: between them
        [("validation batch", 3, count - 1)],
        [("tensors", 4, 0)],  # the second checkpoint's optimizer, its weights being written
        [("forward", first_epoch_ends, 0)],
        [("saved", 1, 0), ("forward", 3, count - 1), ("save", 1, 0)],
    ]
    random = Random(20)
    while len(worst) < NUM_MOMENTS:
        place = random.choice(list(TIMES))
        process = 0 if place in IN_PROCESS_0 else random.randrange(count)
        worst.append([(place, random.randint(1, TIMES[place][count - 1]), process)])
    return worst


FAST = {("no", 1, 0), ("bf16", 2, 2), ("no", 2, 4)}
CASES = [
    pytest.param(
        precision,
        count,
        kills,
        id=f"{precision}-{count}-" + "-".join(f"{place}{time}@{process}" for place, time, process in kills),
        marks=() if (precision, count, index) in FAST else pytest.mark.slow,
    )
    for precision in ("no", "bf16")
    for count in (1, 2)
    for index, kills in enumerate(moments(count))
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """GPT-2, because its dropout makes the random state matter."""
    return make_inputs(tmp_path_factory.mktemp("inputs"), "gpt2", GPT2)


@pytest.fixture(scope="module")
def undisturbed(
    inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, int], dict[str, Any]]:
    found: dict[tuple[str, int], dict[str, Any]] = {}

    def run(precision: str, count: int) -> dict[str, Any]:
        if (precision, count) not in found:
            folder = tmp_path_factory.mktemp(f"{precision}-{count}")
            assert train_in_children(inputs, folder, count, mixed_precision=precision) == [0] * count
            found[precision, count] = outcome(folder, "output0")
        return found[precision, count]

    return run


@pytest.mark.parametrize(("precision", "count", "kills"), CASES)
def test_killed_training_goes_on_to_the_same_bits(inputs, undisturbed, tmp_path, precision, count, kills):
    expected = undisturbed(precision, count)
    for place, times, process in kills:
        hit = (place, times, "SIGKILL")
        assert train_in_children(inputs, tmp_path, count, hit, process, mixed_precision=precision)[process] == -9
    assert train_in_children(inputs, tmp_path, count, mixed_precision=precision) == [0] * count
    assert outcome(tmp_path, f"output{len(kills)}") == expected


def test_undisturbed_runs_repeat_their_bits_and_differ_where_they_should(inputs, undisturbed, tmp_path):
    assert train_in_children(inputs, tmp_path, 1) == [0]
    assert outcome(tmp_path, "output0") == undisturbed("no", 1)
    weights = {undisturbed(precision, count)["model"] for precision, count in (("no", 1), ("bf16", 2), ("no", 2))}
    assert len(weights) == 3
