"""The tables of nlpaug (MIT): neighbours on the keyboard, characters that look alike, words as people misspell them."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from string import ascii_lowercase


def nlpaug_file(name: str) -> Path:
    """A file among nlpaug's resources, found without importing it."""
    spec = importlib.util.find_spec("nlpaug")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "res" / name


@cache
def keyboard_neighbours() -> dict[str, str]:
    """Of each lower-case letter the letters beside it on an English keyboard."""
    table = json.loads(nlpaug_file("char/keyboard/en.json").read_text(encoding="utf-8"))
    found = {key: "".join(one for one in near if one in ascii_lowercase) for key, near in table.items()}
    return {key: near for key, near in found.items() if key in ascii_lowercase and near}


@cache
def lookalikes() -> dict[str, str]:
    """Of each character those for which a reader of scanned pages takes it, in both directions."""
    table = json.loads(nlpaug_file("char/ocr/en.json").read_text(encoding="utf-8"))
    pairs = {(one, other) for one, others in table.items() for other in others}
    both = sorted(pairs | {(other, one) for one, other in pairs})
    return {one: "".join(b for a, b in both if a == one) for one, _ in both}


@cache
def misspellings() -> dict[str, tuple[str, ...]]:
    """Of each word, in lower case, how people misspell it."""
    found: dict[str, tuple[str, ...]] = {}
    for line in nlpaug_file("word/spelling/spelling_en.txt").read_text(encoding="utf-8").splitlines():
        word, *wrong = line.lower().split()
        different = tuple(dict.fromkeys(one for one in wrong if one != word))
        if different:
            found[word] = different
    return found
