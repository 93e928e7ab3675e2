"""The values that a page draws, read back from its drawings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape


def drawn_values(page: str) -> Iterator[tuple[str, list[tuple[int, float, float]]]]:
    """Of every curve that shows a tag of the records: the tag, and its (step, value, error). The error is half of the
    last decimal of a coordinate."""
    for scales, body in re.findall(r"<svg [^>]*data-lines='([^']*)'[^>]*>(.*?)</svg>", page, re.DOTALL):
        scale = json.loads(scales)
        left, right, first, last = scale["x"]
        bottom, top, low, high = scale["y"]
        for points, tag in re.findall(r'<polyline points="([^"]*)"[^>]*data-tag="([^"]*)"', body):
            found = []
            for x, y in (map(float, point.split(",")) for point in points.split()):
                share = (y - bottom) / (top - bottom)
                step = round(first + (x - left) / (right - left) * (last - first))
                value = low * (high / low) ** share if scale["log"] else low + share * (high - low)
                slope = value * abs(high / low) if scale["log"] else high - low
                found.append((step, value, 0.006 / abs(top - bottom) * slope + 1e-12))
            yield unescape(tag), found
