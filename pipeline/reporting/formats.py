"""Numbers as people read them: thousands separators, decimal byte units, minutes and seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def count(value: float) -> str:
    """A whole number with thousands separators: 1,234,567."""
    return f"{value:,.0f}"


def compact(value: float) -> str:
    """A count in three digits: 950, 12.3k, 5.31M, 316B."""
    divisor, suffix = _unit(value, ("", "k", "M", "B", "T"))
    return f"{_three_digits(value / divisor)}{suffix}" if suffix else count(value)


def size(num_bytes: float) -> str:
    """Bytes in decimal units: 812 bytes, 1.63 MB, 4.56 GB."""
    divisor, unit = _unit(num_bytes, ("byte" if num_bytes == 1 else "bytes", "kB", "MB", "GB", "TB"))
    return f"{_three_digits(num_bytes / divisor)} {unit}" if divisor > 1 else f"{num_bytes:,.0f} {unit}"


def duration(seconds: float) -> str:
    """Seconds as 0.84 s, 12.3 s, 4 min 05 s, 2 h 03 min or 3 d 04 h."""
    if seconds < 99.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours:02d} h"


def real(value: float, digits: int = 4) -> str:
    """A real number to so many significant digits: 2.081, 12,340, 3.2e-4 (with a superscript)."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if -3 <= exponent < 6:
        return f"{value:,.{max(0, digits - 1 - exponent)}f}".replace("-", "\u2212")
    mantissa = f"{value / 10.0**exponent:.{max(0, min(2, digits - 1))}f}".replace("-", "\u2212")
    return f"{mantissa}\u00d7{power_of_ten(exponent)}"


def percent(share: float) -> str:
    """A share as a percentage: 37.2%, 0.04%."""
    return f"{100 * share:.1f}%" if share >= 0.0095 or share == 0 else f"{100 * share:.2g}%"


def written(value: float, style: str) -> str:
    """A figure as a `real` number, `percent`, `count` or `size`."""
    return {"percent": percent, "count": count, "size": size}.get(style, real)(value)


def between(interval: Sequence[float], style: str) -> str:
    """An interval as its ends: 1.951 to 2.034."""
    return " to ".join(written(end, style) for end in interval)


def signed_between(interval: Sequence[float], style: str) -> str:
    """The interval of a difference, with signs: +2.1 to +9.8 points, \u22120.151 to \u22120.113."""
    if style == "percent":
        return " to ".join(_signed(100 * end, f"{abs(100 * end):.1f}") for end in interval) + " points"
    return " to ".join(_signed(end, real(abs(end), 3)) for end in interval)


def _signed(value: float, size: str) -> str:
    return f"{'+' if value > 0 else chr(0x2212) if value < 0 else ''}{size}"


def with_error(value: float, standard_error: float | None) -> str:
    """A real number with its standard error, where that is known: 0.3125 ± 0.014."""
    return real(value) + (f" ± {real(standard_error, 2)}" if standard_error is not None else "")


def power(base: str, exponent: int) -> str:
    """A power with a superscript exponent: 0.9²⁰¹."""
    return f"{base}{str(exponent).translate(_SUPERSCRIPTS)}"


def power_of_ten(exponent: int) -> str:
    """10 with a superscript exponent."""
    return power("10", exponent)


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, the cut marked by an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def plural(number: float, noun: str, write: Callable[[float], str] = compact) -> str:
    """A count with its noun: 1 document, 12.3k documents."""
    return f"{write(number)} {noun}{'' if number == 1 else 's'}"


def _unit(value: float, names: tuple[str, ...]) -> tuple[float, str]:
    """The thousands' power and its name in which the value, rounded to three digits, is below 1000."""
    rounded = float(f"{abs(value):.3g}")
    power = next((power for power in range(len(names)) if rounded < 1000.0 ** (power + 1)), len(names) - 1)
    return 1000.0**power, names[power]


def _three_digits(value: float) -> str:
    rounded = float(f"{value:.3g}")
    return f"{rounded:.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}" if rounded else "0"
