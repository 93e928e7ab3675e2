"""Words and runs of words of many texts at once, as 64-bit hashes: those by which texts are compared."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PIECE_CHARS = 1_000_000
"""Texts are hashed so many characters at a time: temporary arrays are some 20 times as large as the text."""

LONG_BYTES = 1024
"""Longer words are hashed one by one."""

_SPACE = re.compile(r"\s")
_NO_SPACES = ((0xE00, 0xEFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF))
"""Code points of writing without spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese. A character alone
counts as a word there, as do those from U+20000 on."""

_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_MIXER = np.uint64(0xD6E8FEB86659FD93)
_32 = np.uint64(32)


@dataclass(frozen=True)
class Words:
    """The words of some texts, in order. Case, punctuation and white space do not count."""

    hashes: NDArray[np.uint64]

    document: NDArray[np.int32]
    """Position of the text that each word is from."""

    num_documents: int

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of words of each text."""
        return np.bincount(self.document, minlength=self.num_documents)

    def keep(self, mask: NDArray[np.bool_]) -> Words:
        """The words of the texts where `mask` is true, which are counted anew from 0."""
        kept = mask[self.document]
        places = np.cumsum(mask, dtype=np.int32) - np.int32(1)
        document = places[self.document[kept]]
        return Words(self.hashes[kept], document, int(np.count_nonzero(mask)))


class Ngrams(NamedTuple):
    """Hashes of runs of words in the order of the texts, and the position of the text that each is from."""

    hashes: NDArray[np.uint64]
    document: NDArray[np.int32]


def words_of(texts: Sequence[str]) -> Words:
    """The words of texts: runs of letters, combining marks, digits and underscores, in folded case."""
    found = [_hash_words(pieces, first) for pieces, first in _pieces(texts)]
    empty = (np.empty(0, np.uint64), np.empty(0, np.int32))
    hashes, document = (np.concatenate(parts) for parts in zip(empty, *found, strict=True))
    return Words(hashes, document, len(texts))


def ngrams(words: Words, num_words: int) -> Ngrams:
    """The runs of `num_words` words of each text, with repeats. A text with fewer words is one run of all of them; one
    without words has none."""
    hashes, document = words.hashes, words.document
    number = max(0, len(hashes) - num_words + 1)
    runs = hashes[:number].copy()
    for shift in range(1, num_words):
        runs *= _FACTOR
        runs += hashes[shift : shift + number]
    is_whole = document[:number] == document[len(document) - number :]
    runs, owners = runs[is_whole], document[:number][is_whole]
    counts = words.counts
    short = np.flatnonzero((counts > 0) & (counts < num_words))
    if len(short):
        first = (np.cumsum(counts) - counts)[short]
        alone = hashes[first]
        for shift in range(1, num_words):
            longer = counts[short] > shift
            alone[longer] = alone[longer] * _FACTOR + hashes[first[longer] + shift]
        places = np.searchsorted(owners, short)
        runs, owners = np.insert(runs, places, alone), np.insert(owners, places, short)
    return Ngrams(mix(runs), owners)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Values of which each bit depends on all bits of the value given, one to one."""
    mixed = values ^ (values >> _32)
    mixed *= _MIXER
    mixed ^= mixed >> _32
    mixed *= _MIXER
    mixed ^= mixed >> _32
    return mixed


def _pieces(texts: Sequence[str]) -> Iterator[tuple[list[str], int]]:
    """Consecutive texts of about PIECE_CHARS together, with the position of the first. Of longer ones a part each, cut
    at white space."""
    gathered: list[str] = []
    size = 0
    for number, text in enumerate(texts):
        if gathered and size + len(text) > PIECE_CHARS:
            yield gathered, number - len(gathered)
            gathered, size = [], 0
        if len(text) > PIECE_CHARS:
            start = 0
            while start < len(text):
                space = _SPACE.search(text, start + PIECE_CHARS)
                stop = space.end() if space else len(text)
                yield [text[start:stop]], number
                start = stop
        else:
            gathered.append(text)
            size += len(text)
    if gathered:
        yield gathered, len(texts) - len(gathered)


def _hash_words(texts: list[str], first: int) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """The hashes of the words of texts, and the position of the text of each, from `first` on."""
    folded = [text.casefold() for text in texts]
    joined = "\n".join(["", *folded, "\0" * 8])
    data = joined.encode()
    buffer = np.frombuffer(data, np.uint8)
    starts, stops = _bounds(joined, buffer)
    lengths = stops - starts
    ends = np.cumsum([1 + (len(text) if text.isascii() else len(text.encode())) for text in folded])
    counts = np.diff(np.searchsorted(starts, ends), prepend=0)
    document = np.repeat(np.arange(first, first + len(texts), dtype=np.int32), counts)
    eights = np.ndarray(len(buffer) - 7, np.uint64, data, 0, (1,))  # the eight bytes from each place on
    hashes = mix(lengths.astype(np.uint64) * _FACTOR + (eights[starts] & _KEPT[np.minimum(lengths, 8)]))
    left = np.flatnonzero((lengths > 8) & (lengths <= LONG_BYTES))
    done = 8
    while len(left):
        more = eights[starts[left] + done] & _KEPT[np.minimum(lengths[left] - done, 8)]
        hashes[left] = mix(hashes[left] * _FACTOR + more)
        done += 8
        left = left[lengths[left] > done]
    for long in np.flatnonzero(lengths > LONG_BYTES).tolist():
        digest = hashlib.blake2b(data[starts[long] : stops[long]], digest_size=8).digest()
        hashes[long] = int.from_bytes(digest, "little")
    return hashes, document


def _bounds(joined: str, buffer: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where the words of a buffer start and stop. None stands at its beginning or end."""
    in_word = _WORD_BYTES[buffer]
    if joined.isascii():
        edges = np.flatnonzero(in_word[1:] != in_word[:-1]) + 1
        return edges[0::2], edges[1::2]
    codes = np.frombuffer(joined.encode("utf-32-le"), np.uint32)
    kinds = _kinds_of(codes[codes > 127])
    leads = np.flatnonzero(buffer >= 0xC0)
    after = leads + 2 + (buffer[leads] >= 0xE0) + (buffer[leads] >= 0xF0)
    outside = kinds == _OUTSIDE
    for shift in range(4):
        bytes_of = leads[outside] + shift
        in_word[bytes_of[bytes_of < after[outside]]] = False
    is_cut = np.zeros(len(buffer), dtype=bool)
    for bounds in (leads, after):
        is_cut[bounds[kinds == _ALONE]] = True
    here, before = in_word[1:], in_word[:-1]
    starts = np.flatnonzero(here & (~before | is_cut[1:])) + 1
    stops = np.flatnonzero(before & (~here | is_cut[1:])) + 1
    return starts, stops


def _kinds_of(codes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Whether characters stand outside of words, in words, or make a word alone."""
    kinds = _KINDS[codes]
    unknown = np.unique(codes[kinds == _UNKNOWN])
    if len(unknown):
        _KINDS[unknown] = [_kind(code) for code in unknown.tolist()]
        kinds = _KINDS[codes]
    return kinds


_OUTSIDE, _INSIDE, _ALONE, _UNKNOWN = range(4)


def _kind(code: int) -> int:
    char = chr(code)
    if not (char.isalnum() or char == "_" or unicodedata.category(char)[0] == "M"):
        return _OUTSIDE
    without_spaces = code >= 0x20000 or any(start <= code <= stop for start, stop in _NO_SPACES)
    return _ALONE if without_spaces else _INSIDE


_KINDS = np.full(0x110000, _UNKNOWN, dtype=np.uint8)
_WORD_BYTES = np.array([byte > 127 or _kind(byte) != _OUTSIDE for byte in range(256)])
_KEPT = np.array([(1 << 8 * count) - 1 for count in range(9)], dtype=np.uint64)
