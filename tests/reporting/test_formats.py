"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.reporting.formats import compact, count, duration, percent, real, size


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        # three digits, and the next unit where rounding reaches it
        (compact, 0, "0"), (compact, 950, "950"), (compact, 999.6, "1.00k"), (compact, 12345, "12.3k"),
        (compact, 5_312_000, "5.31M"), (compact, 316e9, "316B"), (compact, 2e15, "2000T"),
        # decimal units
        (size, 0, "0 bytes"), (size, 1, "1 byte"), (size, 999, "999 bytes"), (size, 1630, "1.63 kB"),
        (size, 999_950, "1.00 MB"), (size, 4.56e9, "4.56 GB"),
        # seconds carry over
        (duration, 0.839, "0.84 s"), (duration, 12.34, "12.3 s"), (duration, 99.96, "1 min 40 s"),
        (duration, 245, "4 min 05 s"), (duration, 3599.7, "1 h 00 min"), (duration, 273_600, "3 d 04 h"),
        # four digits, and powers of ten
        (real, 2.0812, "2.081"), (real, 0, "0"), (real, 12340.4, "12,340"), (real, -0.5, "\u22120.5000"),
        (real, 3.2e-5, "3.20\u00d710⁻⁵"), (real, 0.0099996, "0.01000"),
        (count, 1234567, "1,234,567"),
        (percent, 0, "0.0%"), (percent, 0.3471, "34.7%"), (percent, 0.00041, "0.041%"), (percent, 1, "100.0%"),
    ],
)  # fmt: skip
def test_numbers_as_people_read_them(write: Callable[[float], str], value: float, text: str) -> None:
    assert write(value) == text
