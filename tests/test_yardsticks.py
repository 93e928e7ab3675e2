"""Tests bound costs by yardsticks alone."""

from __future__ import annotations

import pytest
from yardsticks import TRIES, assert_costs_at_most


def test_a_bound_holds_when_one_of_its_measurements_does() -> None:
    costs = iter([9.0, 9.0, 2.0])
    assert_costs_at_most(2.0, lambda: next(costs), lambda: 1.0)
    with pytest.raises(AssertionError, match=r"costs 9\.00, 9\.00, 9\.00 times its yardstick, not 2\.0"):
        assert_costs_at_most(2.0, lambda: 9.0, lambda: 1.0)
    assert TRIES == 3
