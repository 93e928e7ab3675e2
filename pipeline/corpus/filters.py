"""Which documents are worth learning from: each filter names the reason for which it drops one."""

from __future__ import annotations

import re

from pipeline.config.corpus import CurateConfig

_LETTER = re.compile(r"[^\W\d_]")
_DIGIT = re.compile(r"\d")
_WORD = re.compile(r"\S+")
_SPACE = re.compile(r"\s+")


def reason_to_drop(text: str, section: CurateConfig) -> str | None:
    """The first limit that a text breaks, in words, or None when it may stay."""
    if len(text) < section.min_chars:
        return "shorter than min_chars"
    if section.max_chars is not None and len(text) > section.max_chars:
        return "longer than max_chars"
    if section.min_words and sum(1 for _ in _WORD.finditer(text)) < section.min_words:
        return "fewer than min_words"
    visible = len(_SPACE.sub("", text))
    if visible == 0:
        return "no visible characters" if section.min_alphabetic_ratio > 0 else None
    if len(_LETTER.findall(text)) < section.min_alphabetic_ratio * visible:
        return "fewer letters than min_alphabetic_ratio"
    if len(_DIGIT.findall(text)) > section.max_digit_ratio * visible:
        return "more digits than max_digit_ratio"
    return None
