"""Reads `metrics.jsonl`. Imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def parse_record(line: bytes) -> dict[str, Any] | None:
    """The step and the values of one line; None when it is no record, such as a line that a kill cut short."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) and isinstance(values.get("step"), int) else None


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file, in order; none when it is missing."""
    if path.is_file():
        with path.open("rb") as file:
            yield from (record for line in file if (record := parse_record(line)) is not None)
