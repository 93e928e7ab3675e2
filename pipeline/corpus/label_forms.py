"""Labels as text: one normal form, whatever type and spelling a source gives them, and which of them are alike."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

_WHOLE_FLOAT = re.compile(r"-?[0-9]+\.0")  # as floats are written of which each is a whole number
_MAX_EXACT = 2**53  # From here on not every whole number is a float.
_TRUTHS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}
_NO_NUMBERS = ("nan", "NaN", "NAN")
_LIKE_NONE = ("none", "null", "na", "n/a", "#n/a", "<na>", "nat", "\\n")


class LabelError(Exception):
    """A label is not usable, for the reason in the message."""


def normal_label(value: Any, name: str = "label") -> str | None:
    """The one text that stands for a label, or None for a missing one (null, NaN, nothing but white space).

    A whole number is written without a point, be it an integer or a float, since a column of integers becomes one of
    floats where a value is missing; other numbers keep all digits that tell them apart. Truth values are `true` and
    `false`. Other text loses the white space around it. Lists and such are JSON. Raises LabelError, which calls
    it by its `name`.
    """
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise LabelError(f"{name} is not UTF-8") from None
    if value is None:
        return None
    if isinstance(value, str):
        return _normal_text(value.strip(), name)
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, float | Decimal):
        return _normal_number(value, name)
    return str(value)


def _normal_text(text: str, name: str) -> str | None:
    if not text or text in _NO_NUMBERS:
        return None
    if _WHOLE_FLOAT.fullmatch(text) and len(text) < 18:
        return str(int(text[:-2]))
    if "\0" in text:
        raise LabelError(f"{name} has NUL bytes")
    return _TRUTHS.get(text, text)


def _normal_number(value: float | Decimal, name: str) -> str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise LabelError(f"{name} is infinite")
    if (whole := int(value)) == value and abs(whole) <= _MAX_EXACT:
        return str(whole)
    return repr(value) if isinstance(value, float) else format(value.normalize(), "f")


def alike_labels(labels: Iterable[str]) -> list[list[str]]:
    """Groups of different labels that are the same up to case, white space or the way to write a number, sorted."""
    groups: dict[str | float, set[str]] = {}
    for label in labels:
        groups.setdefault(_folded(label), set()).add(label)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def _folded(label: str) -> str | float:
    plain = "".join(unicodedata.normalize("NFKC", label).casefold().split())
    try:
        return float({"true": "1", "false": "0"}.get(plain, plain))
    except ValueError:
        return plain


def like_none(labels: Iterable[str]) -> list[str]:
    """The labels that look like a missing value, sorted."""
    return sorted({label for label in labels if label.casefold() in _LIKE_NONE})
