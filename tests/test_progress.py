"""Progress: a line now and then in a log, a bar on a terminal."""

from __future__ import annotations

import io
import time

import pytest

from pipeline import progress
from pipeline.progress import Progress

DRAWN_AGAIN = 0.11
"""Seconds after which tqdm draws a bar again."""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_rate_time_left_and_note_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with Progress("train", stream).task("training", total=1000, unit="steps") as task:
        task.start_at(100)
        for _ in range(30):
            now[0] += 1
            task.update(10, "loss 2.5")
    assert stream.getvalue().splitlines() == [
        "train: training: 200 steps of 1,000 steps (20%), 10 steps/s, 1m20s left  loss 2.5",
        "train: training: 300 steps of 1,000 steps (30%), 10 steps/s, 1m10s left  loss 2.5",
        "train: training: 400 steps of 1,000 steps (40%), 10 steps/s, 1m00s left  loss 2.5",
    ]


def test_a_terminal_gets_a_bar_that_goes_away() -> None:
    stream = Terminal()
    with Progress("train", stream).task("training", total=10, unit="steps") as task:
        time.sleep(DRAWN_AGAIN)
        task.update(10, "loss 2.5")
    assert "train: training:" in stream.getvalue()
    assert "| 10/10 [00:00 left, " in stream.getvalue()
    assert "steps/s, loss 2.5]" in stream.getvalue()
    assert stream.getvalue().endswith("\r")


@pytest.mark.parametrize(("columns", "shown"), [(0, "a 1"), (8, "a 1"), (9, "a 1, bb 2"), (99, "a 1, bb 2, c 3")])
def test_a_note_loses_its_last_parts_where_columns_are_few(columns: int, shown: str) -> None:
    assert progress.fitting("a 1, bb 2, c 3", columns) == shown


def test_a_narrow_terminal_shows_the_bar_and_the_beginning_of_the_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DEFAULT_COLUMNS", 100)
    stream = Terminal()
    with Progress("train", stream).task("training", total=1000, unit="steps") as task:
        time.sleep(DRAWN_AGAIN)
        task.update(10, "loss 2.5, gradient 0.12, 4,321 tokens/s of 123,456, memory 12.5 GB")
    assert "gradient 0.12]" in stream.getvalue()
