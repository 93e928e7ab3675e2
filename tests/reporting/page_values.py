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


def drawn_cells(page: str) -> dict[str, dict[str, dict[int, float]]]:
    """Of every heat map, by its title: the value of each row by the last step of a column; 0 where it is grey."""
    found = {}
    for title, data in re.findall(r'aria-label="([^":]*): [^"]*" data-heat="([^"]*)"', page):
        heat = json.loads(unescape(data))
        found[title] = {
            row: {step: 0.0 if value is None else 10**value for step, value in zip(heat["ends"], values, strict=True)}
            for row, values in zip(heat["layers"], heat["values"], strict=True)
        }
    return found


def drawn_stacks(page: str) -> Iterator[dict[str, dict[int, float]]]:
    """Of every drawing of parts of a whole: values by tag and by the last step of a column."""
    for data in re.findall(r'data-stacked="([^"]*)"', page):
        stack = json.loads(unescape(data))
        values = zip(stack["tags"], stack["values"], strict=True)
        yield {tag: dict(zip(stack["ends"], of, strict=True)) for tag, of in values}
