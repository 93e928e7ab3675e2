from __future__ import annotations

import pytest

from pipeline.reporting import formats


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (950, "950"),
        (999.6, "1.00k"),
        (12345, "12.3k"),
        (5_312_000, "5.31M"),
        (316e9, "316B"),
        (2e15, "2000T"),
    ],
)
def test_compact_counts_have_three_digits(value: float, text: str) -> None:
    assert formats.compact(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1630, "1.63 kB"), (999_950, "1.00 MB"), (4.56e9, "4.56 GB")],
)
def test_sizes_are_decimal(value: float, text: str) -> None:
    assert formats.size(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.839, "0.84 s"),
        (12.34, "12.3 s"),
        (99.96, "1 min 40 s"),
        (245, "4 min 05 s"),
        (3599.7, "1 h 00 min"),
        (273_600, "3 d 04 h"),
    ],
)
def test_durations_carry_over(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0812, "2.081"),
        (0, "0"),
        (12340.4, "12,340"),
        (-0.5, "\u22120.5000"),
        (3.2e-5, "3.20\u00d710⁻⁵"),
        (0.0099996, "0.01000"),
    ],
)
def test_reals_have_four_digits(value: float, text: str) -> None:
    assert formats.real(value) == text


def test_counts_have_thousands_separators() -> None:
    assert formats.count(1234567) == "1,234,567"


@pytest.mark.parametrize(("share", "text"), [(0, "0.0%"), (0.3471, "34.7%"), (0.00041, "0.041%"), (1, "100.0%")])
def test_percentages(share: float, text: str) -> None:
    assert formats.percent(share) == text
