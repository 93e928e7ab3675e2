"""What becomes of tasks: the order of results and errors, and how often a task is done again."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import BadDataError, StorageError
from pipeline.executors.jobs import Job, JobProgress
from pipeline.executors.task_states import MOST_DEATHS, TaskStates
from pipeline.progress import Progress


def states_of(num_tasks: int) -> TaskStates:
    job = Job(print, None, range(num_tasks), [1] * num_tasks, Path("job"), "counting")
    with Progress("test").bar("counting") as bar:
        return TaskStates(job, JobProgress(job, bar), print)


def test_tasks_are_given_in_order_whatever_order_they_end_in() -> None:
    states = states_of(4)
    assert [states.begin() for _ in range(4)] == [0, 1, 2, 3]
    given = []
    for number in (2, 0, 3, 1):
        states.end(number, None)
        given.append(list(states.in_order()))
    assert given == [[], [0], [], [1, 2, 3]]
    assert states.is_over


def test_of_several_errors_the_first_in_order_is_raised_and_nothing_behind_it_begins() -> None:
    states = states_of(6)
    for _ in range(4):
        states.begin()
    states.end(3, BadDataError("three"))
    assert list(states.waiting) == []
    states.end(1, BadDataError("one"))
    assert list(states.in_order()) == []
    states.end(0, None)
    order = states.in_order()
    assert next(order) == 0
    with pytest.raises(BadDataError, match="one"):
        next(order)


def test_a_task_that_died_is_the_next_to_begin_until_it_died_too_often(capsys: pytest.CaptureFixture[str]) -> None:
    states = states_of(3)
    states.begin()
    for _ in range(MOST_DEATHS - 1):
        states.die(0, "buy memory")
        assert states.begin() == 0
    with pytest.raises(
        StorageError, match=r"killed 3 times at shard 1 of 3 \(counting\), probably for lack of memory; buy memory"
    ):
        states.die(0, "buy memory")
    said = "a worker process was killed at shard 1 of 3 (counting), which is done again\n"
    assert capsys.readouterr().out == said * (MOST_DEATHS - 1)


def test_a_task_that_was_not_begun_is_put_back_without_counting() -> None:
    states = states_of(2)
    for _ in range(MOST_DEATHS + 1):
        assert [states.begin(), states.begin()] == [0, 1]
        states.put_back(1)
        states.put_back(0)
