"""Which documents of a corpus have a key that an earlier one has: the same text, the same group."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.shuffle import ShuffleWriter, buckets_of_numbers, read_part
from pipeline.executors.jobs import Report

KEYED = np.dtype([("key", "<u8"), ("document", "<u4")])
"""A document by its number in the corpus, with the hash of what it may share with others."""

LINK = np.dtype([("document", "<u4"), ("earlier", "<u4")])
"""Two documents that belong together."""

LINKS = "links"
"""How the file is called in the folder of each task that finds some."""


LONG_CHARS = 1_000_000
"""Longer texts are hashed in pieces: their words as strings would take ten times their memory."""


def text_hash(text: str) -> int:
    """64 bits of a text's content, equal for texts that differ only in case and white space.

    Among n different texts the chance that any two collide is about n**2 / 2**65: one in 40 for a thousand million.
    """
    digest = hashlib.blake2b(digest_size=8)
    begun = gap = False
    for start in range(0, len(text), LONG_CHARS):
        piece = text[start : start + LONG_CHARS]
        if words := " ".join(piece.split()).casefold():
            digest.update((" " if begun and (gap or piece[0].isspace()) else "").encode() + words.encode())
            begun, gap = True, False
        gap = gap or piece[-1].isspace()
    return int.from_bytes(digest.digest(), "little")


def text_hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    """`text_hash` of each text; those in ASCII together, in half of the time."""
    hashes = np.empty(len(texts), np.uint64)
    is_short = [0 < len(text) <= LONG_CHARS and text.isascii() for text in texts]
    short = list(compress(texts, is_short))
    if short:
        lengths = np.fromiter(map(len, short), np.int64, len(short))
        hashes[is_short] = _hashes_of_ascii("".join(short).encode(), np.cumsum(lengths) - lengths)
    for number in np.flatnonzero(~np.array(is_short, dtype=bool)).tolist():
        hashes[number] = text_hash(texts[number])
    return hashes


def _hashes_of_ascii(joined: bytes, starts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hashes of texts that are joined, by where they start."""
    folded = np.frombuffer(joined.translate(_FOLDED), np.uint8)
    is_kept = folded != _SPACE
    is_word = is_kept.copy()
    is_kept[1:] |= is_word[:-1]  # a space behind a word
    is_kept[starts] = is_word[starts]
    kept = np.append(folded[is_kept], np.uint8(0))
    stops = np.cumsum(np.add.reduceat(is_kept, starts, dtype=np.int64))
    begins, ends = np.concatenate([[0], stops[:-1]]), stops - (kept[stops - 1] == _SPACE)
    view = memoryview(kept.tobytes())
    bounds = zip(begins.tolist(), ends.tolist(), strict=True)
    digests = [hashlib.blake2b(view[begin:end], digest_size=8).digest() for begin, end in bounds]
    return np.frombuffer(b"".join(digests), "<u8")


_SPACE = 32
_FOLDED = bytes(_SPACE if chr(code).isspace() else ord(chr(code).lower()) for code in range(128)) + bytes(128)
"""Bytes of ASCII in folded case, with a space for all white space."""


def key_hash(key: str) -> int:
    """64 bits of a string."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def link_repeats(shared: tuple[Sequence[Path], int], buckets: range, output: Path, report: Report) -> None:
    """Link the documents of each key to the first of them. Keys were shuffled by their hashes, links are by document:
    `shared` has the files of the keys and the number of documents in the corpus."""
    paths, num_documents = shared
    records = read_part(paths, KEYED, buckets)
    records = records[np.lexsort((records["document"], records["key"]))]
    is_first = np.ones(len(records), dtype=bool)
    is_first[1:] = records["key"][1:] != records["key"][:-1]
    firsts = records["document"][np.flatnonzero(is_first)[np.cumsum(is_first) - 1]]
    links = np.empty(int(np.count_nonzero(~is_first)), LINK)
    links["document"], links["earlier"] = records["document"][~is_first], firsts[~is_first]
    with ShuffleWriter(output / LINKS, LINK) as writer:
        writer.write(links, buckets_of_numbers(links["document"], num_documents))
