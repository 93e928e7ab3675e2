"""Documents that are no text: random bytes, dumps of bytes as hexadecimal digits, text read in a wrong encoding.

Each document is cut into pieces, and each piece is priced by how often pairs of bytes occur in the *other* half of the
documents (those of even, or of odd number), so that garbage never teaches the model that judges it. Pairs lie within
tokens or on their seams: a stream is priced without decoding it, whatever its tokenizer. A piece that is dear beside
the others is decoded, and its letters have to show what it is. Tables, code and other languages are dear too, but
show none of these signs.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.telemetry.facts import GarbageFacts, OddDocument
from pipeline.telemetry.token_bytes import token_bytes
from pipeline.tokens.packed_split import PackedSplit

PRICED_TOKENS, COUNTED_TOKENS, TOKENS_AT_ONCE = 2**26, 2**22, 2**20
PIECE_BYTES, LEAST_BYTES, LEAST_PIECES = 1000, 128, 16
DEAR, SIGMAS, VERY_DEAR = 1.4, 6.0, 3.0
"""Times the median price a byte, and robust standard deviations above it, from which on a piece is looked at; and times
the median from which on it is odd whatever its letters show."""

FEWEST_DIGITS = 64
"""Hexadecimal digits that are a dump: fewer may be some numbers of a text about numbers."""

MOSTLY = 0.5
"""Share of a document's pieces from which on it is garbage, and not a text that holds some; and of a piece's letters
that runs without a space make up."""

LOOKED_AT, NAMED, EXCERPT_CHARS = 2000, 5, 40

CONTINUATIONS = bytes(range(0x80, 0xC0)).decode("cp1252", errors="ignore")
WRONG_ENCODING = re.compile(f"[\u00c2-\u00f4][\u0080-\u00bf{CONTINUATIONS}]")
"""Two bytes of one character of UTF-8, read as Latin-1 or as Windows-1252."""

HEX_WORD = re.compile(r"(?<![A-Za-z0-9])(?:0x|(?:\\x)?)(?:[0-9a-f]{2,}|[0-9A-F]{2,})(?![A-Za-z0-9])")
LONG_RUN = re.compile(r"[!-~]{50,}")


@dataclass(frozen=True)
class _Vocabulary:
    """The bytes of each token: how many, the first and the last (0 of none), (tokens,)."""

    lengths: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    pairs: NDArray[np.int64]
    """All pairs of bytes within tokens, as 256 * byte + next byte, in order of the tokens."""
    owner: NDArray[np.int64]
    """The token of each of those pairs."""

    @classmethod
    def of(cls, tokens: Sequence[bytes], size: int) -> _Vocabulary:
        tokens = [*tokens, *[b""] * (size - len(tokens))]
        parts = [np.frombuffer(token, np.uint8).astype(np.int64) for token in tokens]
        pairs = [256 * part[:-1] + part[1:] for part in parts]
        return cls(
            lengths=np.array([len(part) for part in parts]),
            first=np.array([part[0] if len(part) else 0 for part in parts]),
            last=np.array([part[-1] if len(part) else 0 for part in parts]),
            pairs=np.concatenate(pairs),
            owner=np.repeat(np.arange(len(tokens)), [len(pair) for pair in pairs]),
        )

    def counts(self, ids: NDArray[Any]) -> NDArray[np.float64]:
        """How often each pair of bytes occurs, (65536,)."""
        occurrences = np.bincount(ids, minlength=len(self.lengths))
        within = np.bincount(self.pairs, weights=occurrences[self.owner], minlength=2**16).astype(np.float64)
        return within + np.bincount(self.seams(ids), minlength=2**16)

    def seams(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        """The pairs of the last byte of each token and the first of the next, (len(ids) - 1,)."""
        found: NDArray[np.int64] = 256 * self.last[ids[:-1]] + self.first[ids[1:]]
        return found


@dataclass(frozen=True)
class _Pieces:
    """Pieces of documents: where they begin in the stream and end, their document, and bits a byte."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    documents: NDArray[np.int64]
    prices: NDArray[np.float64]


def find_garbage(split: PackedSplit, tokenizer_file: Path) -> GarbageFacts | None:
    """Looks at all documents of a stream, or at even parts of it if it has more than PRICED_TOKENS tokens; None where
    there are too few to compare."""
    from tokenizers import Tokenizer

    vocabulary = _Vocabulary.of(token_bytes(tokenizer_file), split.vocab_size)
    ends = np.asarray(split.document_ends).astype(np.int64)
    pieces = _priced(split, ends, vocabulary)
    if len(ends) < 3 or len(pieces.prices) < LEAST_PIECES:
        return None
    middle = float(np.median(pieces.prices))
    spread = 1.4826 * float(np.median(abs(pieces.prices - middle)))
    is_dear = (pieces.prices > DEAR * middle) & (pieces.prices > middle + SIGMAS * spread)
    dearest = np.flatnonzero(is_dear)[np.argsort(-pieces.prices[is_dear], kind="stable")][:LOOKED_AT]

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    worst: dict[int, OddDocument] = {}
    no_text: Counter[int] = Counter()
    for piece in dearest.tolist():
        text = tokenizer.decode(split.stream[pieces.starts[piece] : pieces.ends[piece]].tolist())
        document, ratio, sign = int(pieces.documents[piece]), float(pieces.prices[piece]) / middle, garbage_sign(text)
        no_text[document] += bool(sign)
        before = worst.get(document)
        if (sign or ratio > VERY_DEAR) and (before is None or (sign and not before.sign)):
            worst[document] = OddDocument(document + 1, round(ratio, 2), sign, excerpt_of(text))
    sizes = np.bincount(pieces.documents, minlength=len(ends))
    garbage = [one for document, one in worst.items() if no_text[document] >= MOSTLY * sizes[document]]
    others = [one for one in worst.values() if one not in garbage]
    return GarbageFacts(
        documents=int((sizes > 0).sum()),
        garbage=len(garbage),
        odd=len(others),
        garbage_examples=tuple(garbage[:NAMED]),
        odd_examples=tuple(others[:NAMED]),
    )


def garbage_sign(text: str) -> str:
    """What shows that a text is none, in words; "" where nothing does."""
    text = re.sub("^\ufffd{1,3}|\ufffd{1,3}$", "", text)  # a piece may begin and end within a character
    visible = "".join(text.split())
    count = max(1, len(visible))
    if sum(map(_is_no_character, visible)) > 0.02 * count:
        return "characters that no text has"
    latin = sum("\u00a0" <= letter <= "\u00ff" for letter in visible)
    if latin > 0.3 * count or 2 * len(WRONG_ENCODING.findall(visible)) > 0.02 * count:
        return "letters of another encoding"
    words = [re.sub("0x|\\\\x", "", word) for word in HEX_WORD.findall(text)]
    digits, letters = sum(map(len, words)), sum(map(_hex_letters, words))
    with_letters = sum(len(word) for word in words if _hex_letters(word))
    is_dump = digits > 0.5 * count and digits > FEWEST_DIGITS and with_letters > 0.35 * digits
    if is_dump and letters < 0.7 * digits:
        return "hexadecimal digits"
    if sum(map(len, LONG_RUN.findall(text))) > MOSTLY * count:
        return "characters without a space"
    return ""


def _hex_letters(word: str) -> int:
    return sum(letter in "abcdefABCDEF" for letter in word)


def _is_no_character(letter: str) -> bool:
    return letter == "\ufffd" or unicodedata.category(letter) in ("Cc", "Cn", "Co")


def _priced(split: PackedSplit, ends: NDArray[np.int64], vocabulary: _Vocabulary) -> _Pieces:
    """Pieces of LEAST_BYTES or more, each priced by the half of the documents that it is not in."""
    counts, num_bytes, num_tokens = [np.zeros(2**16), np.zeros(2**16)], 0, 0
    for start, ids in _parts(split, COUNTED_TOKENS):
        is_odd = np.searchsorted(ends, np.arange(start, start + len(ids)), side="right") % 2 == 1
        for half in (0, 1):
            counts[half] += vocabulary.counts(ids[is_odd == half])
        num_bytes, num_tokens = num_bytes + int(vocabulary.lengths[ids].sum()), num_tokens + len(ids)
    length = max(1, round(PIECE_BYTES * num_tokens / max(1, num_bytes)))
    prices = [_prices(counts[1 - half]) for half in (0, 1)]
    within = [
        np.bincount(vocabulary.owner, weights=price[vocabulary.pairs], minlength=len(vocabulary.lengths)).astype(
            np.float64  # of no pairs, where each token is one byte, it is whole numbers
        )
        for price in prices
    ]
    found = []
    for start, ids in _parts(split, PRICED_TOKENS):
        bounds, documents = _cut(start, start + len(ids), ends, length)
        seams, places = vocabulary.seams(ids), bounds - start
        sums = []
        for half in (0, 1):
            costs = within[half][ids]
            costs[1:] += prices[half][seams]
            sums.append(np.add.reduceat(costs, places))
        bits, size = np.where(documents % 2, sums[1], sums[0]), np.add.reduceat(vocabulary.lengths[ids], places)
        kept = size >= LEAST_BYTES
        stops = np.append(bounds[1:], start + len(ids))
        found.append([bounds[kept], stops[kept], documents[kept], bits[kept] / size[kept]])
    return _Pieces(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))


def _prices(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bits of each pair's second byte after its first, (65536,). A pair that was never seen costs what its second byte
    costs alone, as if it had been seen once."""
    pairs = counts.reshape(256, 256)
    single = (pairs.sum(0) + 1) / (pairs.sum() + 256)
    shares = (pairs + single) / (pairs.sum(1, keepdims=True) + 1)
    prices: NDArray[np.float64] = -np.log2(shares).ravel()
    return prices


def _parts(split: PackedSplit, limit: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """The stream in parts of TOKENS_AT_ONCE, each with the position of its first token; of a longer stream than `limit`
    evenly spaced ones."""
    count = -(-min(split.num_tokens, limit) // TOKENS_AT_ONCE)
    is_whole = split.num_tokens <= limit
    for part in range(count):
        start = part * TOKENS_AT_ONCE if is_whole else part * split.num_tokens // count
        yield start, split.stream[start : start + TOKENS_AT_ONCE]


def _cut(start: int, stop: int, ends: NDArray[np.int64], length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where equal pieces of about `length` tokens begin within each document of a part of a stream, and of which
    document each is."""
    first, last = np.searchsorted(ends, [start, stop - 1], side="right")
    documents = np.arange(first, last + 1)
    tops = np.minimum(ends[documents], stop)
    begins = np.maximum(np.concatenate([[start], tops[:-1]]), start)
    documents, begins, tops = documents[tops > begins], begins[tops > begins], tops[tops > begins]
    pieces = np.maximum(1, np.round((tops - begins) / length).astype(np.int64))
    number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    bounds = np.repeat(begins, pieces) + number * np.repeat(tops - begins, pieces) // np.repeat(pieces, pieces)
    return bounds, np.repeat(documents, pieces)


def excerpt_of(text: str) -> str:
    """How a text begins, on one line; what cannot be printed is a question mark."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))[:EXCERPT_CHARS]
