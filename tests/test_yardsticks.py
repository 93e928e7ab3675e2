"""Tests bound costs by yardsticks alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from yardsticks import TRIES, assert_costs_at_most

CLOCKS = re.compile(r"\b(perf_counter|process_time|thread_time|monotonic)(_ns)?\(|\bru_[us]time\b|\btimeit\b")
MAY_READ_CLOCKS = {"yardsticks.py", "harness.py", "killing.py"}
"""Yardsticks, and patience with what hangs."""


def test_no_test_measures_time_but_by_yardsticks() -> None:
    """So that none depends on how fast or busy a machine is."""
    folder = Path(__file__).parent
    texts = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.py")}
    assert {name for name, text in texts.items() if CLOCKS.search(text)} - {"test_yardsticks.py"} == MAY_READ_CLOCKS


def test_a_bound_holds_when_one_of_its_measurements_does() -> None:
    costs = iter([9.0, 9.0, 2.0])
    assert_costs_at_most(2.0, lambda: next(costs), lambda: 1.0)
    with pytest.raises(AssertionError, match=r"costs 9\.00, 9\.00, 9\.00 times its yardstick, not 2\.0"):
        assert_costs_at_most(2.0, lambda: 9.0, lambda: 1.0)
    assert TRIES == 3
