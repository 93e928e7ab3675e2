"""Scales and readable ticks for charts, and the small pieces of SVG that they share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from pipeline.reporting.formats import power_of_ten

Tick = tuple[float, str]
MAX_LOG_TICKS = 7
_DIGIT, _MARGIN = 6.6, 12.0
"""Width of a tick's digit, and the room beside an axis for what its last label needs, in pixels."""


@dataclass(frozen=True)
class Scale:
    """A map from values to pixels, its ticks, and what to add to the axis' label (a power of ten, or "")."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[Tick, ...]
    factor: str = ""
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Pixel position of a value."""
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (at - low) / (high - low) * (self.end - self.start)


def linear_scale(
    values: Sequence[float], start: float, end: float, *, num_ticks: int = 5, snap: bool = True, from_zero: bool = False
) -> Scale:
    """A linear scale over the values. `snap` widens it to whole ticks; without it the ends are the values' own."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if from_zero:
        low, high = min(0.0, low), max(0.0, high)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        pad = abs(low) / 2 or 0.5
        low, high = (low - pad, high + pad) if not from_zero else (low, low + 1)
    step = _nice_step((high - low) / num_ticks)
    if snap:
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    marks = [number * step for number in range(first, last + 1)]
    exponent = _factor_exponent(max(abs(low), abs(high)))
    unit = step / 10.0**exponent
    decimals = max(0, -math.floor(math.log10(unit) + 1e-9))
    if abs(unit * 10**decimals - round(unit * 10**decimals)) > 1e-6:
        decimals += 1
    ticks = tuple((mark, f"{mark / 10.0**exponent:,.{decimals}f}".replace("-", "\u2212")) for mark in marks)
    return Scale(low, high, start, end, ticks, f" (\u00d7{power_of_ten(exponent)})" if exponent else "")


def step_scale(steps: Sequence[float], start: float, end: float) -> Scale:
    """A linear scale from the first to the last step, with ticks at whole steps only, as many as have room."""
    room = 16 + _DIGIT * min(7, len(f"{max(steps):,.0f}"))
    scale = linear_scale(steps, start, end, num_ticks=max(1, min(6, int((end - start) / room))), snap=False)
    whole = [mark for mark, _ in scale.ticks if abs(mark - round(mark)) < 1e-6 and mark >= 0]
    millions = scale.high >= 1e6
    ticks = tuple((mark, f"{mark / 1e6:g}M" if millions and mark else f"{mark:,.0f}") for mark in whole)
    return replace(scale, ticks=ticks, factor="")


def log_scale(values: Sequence[float], start: float, end: float) -> Scale:
    """A logarithmic scale, widened to 1, 2 or 5 times a power of ten. Values must be positive."""
    low, high = (min(values), max(values)) if values else (1.0, 10.0)
    grid = [m * 10.0**e for e in range(_decade(low) - 1, _decade(high) + 2) for m in (1, 2, 5)]
    low = max(mark for mark in grid if mark <= low * (1 + 1e-9))
    high = min(mark for mark in grid if mark >= high * (1 - 1e-9) and mark > low)
    marks = [mark for mark in grid if low * (1 - 1e-9) <= mark <= high * (1 + 1e-9)]
    if len(marks) > MAX_LOG_TICKS:
        decades = list(range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1))
        marks = [10.0**e for e in decades[:: math.ceil(len(decades) / MAX_LOG_TICKS)]]
    return Scale(low, high, start, end, tuple((mark, log_label(mark)) for mark in marks), logarithmic=True)


def _decade(value: float) -> int:
    return math.floor(math.log10(value))


def log_label(mark: float) -> str:
    """A tick of 1, 2 or 5 times a power of ten: 0.05, 200, 5 x 10^-4 with a superscript."""
    exponent = _decade(mark * (1 + 1e-9))
    if -3 <= exponent <= 4:
        return f"{mark:,.{max(0, -exponent)}f}"
    mantissa = round(mark / 10.0**exponent)
    return power_of_ten(exponent) if mantissa == 1 else f"{mantissa}\u00d7{power_of_ten(exponent)}"


def _nice_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= 0.8 * rough)


def _factor_exponent(largest: float) -> int:
    if 0.01 <= largest < 1e6:
        return 0
    return math.floor(math.log10(largest)) if largest else 0


def number(value: float) -> str:
    """A coordinate with at most two decimals, without trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def text(x: float, y: float, content: str, css: str = "", anchor: str = "start", extra: str = "") -> str:
    """An escaped SVG text element."""
    name = f' class="{css}"' if css else ""
    where = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{number(x)}" y="{number(y)}"{name}{where}{extra}>{escape(content)}</text>'


def rect(x: float, y: float, width: float, height: float, extra: str) -> str:
    """An SVG rectangle; `extra` holds its class or fill."""
    corner = f'x="{number(x)}" y="{number(y)}"'
    return f'<rect {corner} width="{number(width)}" height="{number(height)}" {extra}/>'


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """A straight SVG line."""
    return f'<line x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}" class="{css}"/>'


def step_axis(x: Scale, bottom: float, label: str) -> str:
    """The horizontal axis below a plot: line, ticks and label with its power of ten."""
    parts = [line(x.start, bottom, x.end, bottom, "axis")]
    for value, name in x.ticks:
        parts.append(line(x(value), bottom, x(value), bottom + 4, "axis"))
        at = min(x(value), x.end + _MARGIN - len(name) * _DIGIT / 2)
        parts.append(text(at, bottom + 17, name, "tick", "middle"))
    parts.append(text((x.start + x.end) / 2, bottom + 35, label + x.factor, "label", "middle"))
    return "".join(parts)


def svg(width: float, height: float, body: str, label: str, extra: str = "") -> str:
    """An SVG element that fills the width it is given; `label` describes it to screen readers."""
    box = f"0 0 {number(width)} {number(height)}"
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(label)}"{extra}>{body}</svg>'
