"""The tests' own tools can say no."""

from __future__ import annotations

import pytest
from harness import tells


@pytest.mark.parametrize(
    ("message", "holds"),
    [
        ("run.yaml:3: seed is missing; set run.seed\n", True),
        ("seed is missing in run.yaml; set run.seed\n", False),  # in another order
        ("run.yaml:3: seed is missing\n", False),  # nothing to do
        ("run.yaml:3: seed is missing; set run.seed\nTraceback\n", False),
    ],
)
def test_a_message_is_one_line_with_its_words_in_order(message: str, holds: bool) -> None:
    assert tells(message, "run.yaml:3", "seed is missing", "run.seed") is holds
