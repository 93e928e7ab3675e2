"""Whether texts come back from their tokens, which decides what bits per byte mean. Imports nothing heavy.

A model's bits are those of its tokens. They store the text only if decoding gives it back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

EXCERPT_BEFORE, EXCERPT_CHARS = 12, 40
"""An example begins so many characters before the first difference, and has so many in all."""

UNICODE = ("NFD", "NFKC", "NFKD", "Nmt", "Precompiled")
ALTERING = (*UNICODE, "Lowercase", "StripAccents", "BertNormalizer", "Replace", "Strip")
"""Normalizers of `tokenizers` by which different texts become one. (NFC is how `normalize` leaves all text.)"""


@dataclass
class _Losses:
    documents: int = 0
    first_spaces: int = 0
    characters: int = 0
    example: dict[str, str] | None = None

    def add(self, text: str, back: str) -> None:
        if text == back:
            return
        self.documents += 1
        self.characters += bag_distance(text, back)
        if text == f" {back}":
            self.first_spaces += 1
        elif self.example is None:
            start = max(0, _common_characters(text, back) - EXCERPT_BEFORE)
            part = slice(start, start + EXCERPT_CHARS)
            self.example = {"text": text[part], "comes_back_as": back[part]}


@dataclass
class RoundTrip:
    """Compares texts with what decoding gives back.

    Some decoders (SentencePiece) add a space before every text. So texts are compared both as decoded and without one
    leading space. The better of the two counts, for all documents.
    """

    documents: int = 0
    characters: int = 0
    _as_it_is: _Losses = field(default_factory=_Losses)
    _without_space: _Losses = field(default_factory=_Losses)

    def add(self, texts: Iterable[str], decoded: Iterable[str]) -> None:
        """Count texts and what their ids, without special tokens around them, are decoded to."""
        for text, back in zip(texts, decoded, strict=True):
            self.documents += 1
            self.characters += len(text)
            self._as_it_is.add(text, back)
            self._without_space.add(text, back.removeprefix(" "))

    def summary(self) -> dict[str, Any]:
        """As JSON values. `lost_first_spaces` of the `lost_documents` lack only a leading space. `lost_characters` is a
        lower bound. `example` is a piece of the first text that lacks more."""
        losses = min(self._as_it_is, self._without_space, key=lambda of: (of.documents - of.first_spaces, of.documents))
        return {
            "documents": self.documents,
            "lost_documents": losses.documents,
            "lost_first_spaces": losses.first_spaces,
            "characters": self.characters,
            "lost_characters": losses.characters,
            "example": losses.example,
            "decoding_adds_a_space": losses is self._without_space,
        }


def bag_distance(one: str, other: str) -> int:
    """Characters that one text has and the other lacks, in any order; the larger of both counts.

    A lower bound of the edit distance in linear time: Bartolini, Ciaccia and Patella 2002, "String Matching with Metric
    Trees Using an Approximate Distance".
    """
    first, second = Counter(one), Counter(other)
    return max((first - second).total(), (second - first).total())


def _common_characters(one: str, other: str) -> int:
    """Length of what both texts begin with."""
    for index, (first, second) in enumerate(zip(one, other, strict=False)):
        if first != second:
            return index
    return min(len(one), len(other))


def is_recoverable(found: Mapping[str, Any]) -> bool:
    """Whether only leading spaces are lost, from the summary of a round trip. Then tokens and one bit a document store
    the text."""
    return bool(found["lost_documents"] == found["lost_first_spaces"])


def loss_in_words(found: Mapping[str, Any], documents: str) -> str:
    """What is lost of `documents` such as "test documents", from the summary of a round trip; "" for nothing."""
    if not found["lost_documents"]:
        return ""
    if is_recoverable(found):
        lost = f"{found['lost_first_spaces']:,} of {found['documents']:,}"
        return f"the tokenizer loses the space with which {lost} {documents} begin, and nothing else"
    example = found["example"]
    return (
        f"the tokenizer loses text: {found['lost_documents']:,} of {found['documents']:,} {documents} do not come back "
        f"from their tokens (at least {found['lost_characters']:,} of {found['characters']:,} characters): "
        f"{example['text']!r} comes back as {example['comes_back_as']!r}"
    )


def foresee_losses(tokenizer: Mapping[str, Any]) -> list[str]:
    """Which parts of a tokenizer.json may lose text, in words."""
    normalizers = _kinds(tokenizer.get("normalizer"), "normalizers")
    pretokenizers = _kinds(tokenizer.get("pre_tokenizer"), "pretokenizers")
    found = [f"normalizer {name}" for name in dict.fromkeys(normalizers) if name in ALTERING]
    model = tokenizer.get("model") or {}
    has_bytes = model.get("byte_fallback") or "ByteLevel" in (*normalizers, *pretokenizers)
    if not has_bytes and model.get("type") in ("BPE", "Unigram", "WordLevel", "WordPiece"):
        found.append(f"{model['type']} without bytes for characters that it does not know")
    return found


def _kinds(part: Any, name: str) -> list[str]:
    """The kind of a part of a tokenizer.json, or of those of a sequence of them. SentencePiece's mark for a space is
    none."""
    if not isinstance(part, dict) or part.get("pattern") == {"String": " "}:
        return []
    if part.get("type") != "Sequence":
        return [str(part.get("type"))]
    return [kind for one in part.get(name) or () for kind in _kinds(one, name)]
