"""Progress: a line now and then in a log, a bar on a terminal."""

from __future__ import annotations

import io
import re
import time

import pytest

from pipeline import progress
from pipeline.progress import Progress

DRAWN_AGAIN = 0.11
"""Seconds after which tqdm draws a bar again."""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of a clock that tests move."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


class Log(io.StringIO):
    """Notes at what time of the clock each line was written."""

    def __init__(self, now: list[float]) -> None:
        super().__init__()
        self._now = now
        self.lines: list[tuple[float, str]] = []

    def write(self, text: str) -> int:
        if text.strip():
            self.lines.append((self._now[0], text))
        return len(text)


def log_of(now: list[float], seconds_of_steps: list[float]) -> list[tuple[float, str]]:
    """What a log gets of steps that take so long."""
    log = Log(now)
    with Progress("train", log).bar("training", total=len(seconds_of_steps), unit="steps") as task:
        for seconds in seconds_of_steps:
            now[0] += seconds
            task.update(1)
    return log.lines


def too_much(now: list[float], seconds_of_steps: list[float]) -> list[float]:
    """The time left that each line tells, as a multiple of what then came; the last minute is left out."""
    told = []
    for at, line in log_of(now, seconds_of_steps):
        if found := re.search(r" (?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)? left", line):
            hours, minutes, seconds = map(int, found.groups(default="0"))
            if (left := sum(seconds_of_steps) - at) > 60:
                told.append((hours * 3600 + minutes * 60 + seconds) / left)
    return told


def test_the_first_step_says_nothing_of_the_time_left(now: list[float]) -> None:
    """It compiles: 249 s a step would be 69 hours."""
    lines = [line for _, line in log_of(now, [249] + [12] * 999)]
    assert lines[:3] == [f"train: training: {n} of 1,000 steps (0%)" for n in (1, 2, 3)]
    assert lines[3] == "train: training: 4 of 1,000 steps (0%), 0.083 steps/s, 3h19m left"


def test_the_time_left_waits_for_two_seconds_of_work(now: list[float]) -> None:
    stream = io.StringIO()
    with Progress("normalize", stream).bar("normalizing", total=1e9, unit="B") as task:
        for waited in (9.3, 0.2, 0.2, 0.2, 0.2, 10.0):
            now[0] += waited
            task.update(1e6)
    first, second = stream.getvalue().splitlines()
    assert "left" not in first
    assert second.endswith(" left")


def test_another_slow_step_does_not_frighten_for_long(now: list[float]) -> None:
    told = too_much(now, [60, 60] + [1] * 3600)
    after_4_minutes = told[24]
    assert 0.95 < after_4_minutes < 1.1, "the mean over all steps would tell 1.25 times as much"
    assert 0.99 < told[-1] < 1.01


def test_validations_count_and_make_the_time_left_jump_little(now: list[float]) -> None:
    """Every 100 steps of a second one of 50 s follows: a step costs 1.5 s all in all."""
    told = too_much(now, [1.0] + ([1.0] * 99 + [51.0]) * 20)
    settled = told[60:-30]
    assert len(settled) > 100
    assert all(0.85 < share < 1.15 for share in settled)


def test_updates_within_the_clock_s_grain_count(now: list[float]) -> None:
    stream = io.StringIO()
    with Progress("ingest", stream).bar("reading", total=4e6, unit="B") as task:
        for _ in range(20):
            now[0] += 1
            for _ in range(10):
                task.update(1e4)
    assert re.search(r"1.9 MB of 4.0 MB \(48%\), 0.1 MB/s, 2[0-3]s left\n$", stream.getvalue())


def test_a_log_gets_rate_time_left_and_note_now_and_then(now: list[float]) -> None:
    stream = io.StringIO()
    with Progress("train", stream).bar("training", total=1000, unit="steps") as task:
        task.start_at(100)
        for _ in range(30):
            now[0] += 1
            task.update(10, "loss 2.5")
    assert stream.getvalue().splitlines() == [
        "train: training: 200 of 1,000 steps (20%), 10 steps/s, 1m20s left  loss 2.5",
        "train: training: 300 of 1,000 steps (30%), 10 steps/s, 1m10s left  loss 2.5",
        "train: training: 400 of 1,000 steps (40%), 10 steps/s, 1m00s left  loss 2.5",
    ]


def test_a_terminal_gets_a_bar_that_goes_away() -> None:
    stream = Terminal()
    with Progress("train", stream).bar("training", total=10, unit="steps") as task:
        time.sleep(DRAWN_AGAIN)
        task.update(10, "loss 2.5")
    assert "train: training:" in stream.getvalue()
    assert "| 10/10, loss 2.5" in stream.getvalue()
    assert stream.getvalue().endswith("\r")


@pytest.mark.parametrize(("columns", "shown"), [(0, "a 1"), (8, "a 1"), (9, "a 1, bb 2"), (99, "a 1, bb 2, c 3")])
def test_a_note_loses_its_last_parts_where_columns_are_few(columns: int, shown: str) -> None:
    assert progress.fitting("a 1, bb 2, c 3", columns) == shown


def test_a_narrow_terminal_shows_the_bar_and_the_beginning_of_the_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DEFAULT_COLUMNS", 100)
    stream = Terminal()
    with Progress("train", stream).bar("training", total=1000, unit="steps") as task:
        time.sleep(DRAWN_AGAIN)
        task.update(10, "loss 2.5, gradient 0.12, 4,321 tokens/s of 123,456, memory 12.5 GB")
    assert "gradient 0.12\r" in stream.getvalue()
