"""How often words stand in a split, counted by shard into tables of one size, so that memory stays flat."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.prose_words import prose_words

NUM_BUCKETS = 2**18
"""Words that share one of these are counted together; some hundred thousand frequent ones seldom do."""
LONGEST = 16


@dataclass
class WordCounts:
    """Plain words of prose, in lower case, by buckets of their hashes."""

    num_documents: int
    documents: NDArray[np.int64]
    """In how many documents the words of a bucket stand."""
    occurrences: NDArray[np.int64]
    """How often they stand there."""
    words: NDArray[np.bytes_]
    """The first by alphabet of the words of a bucket; words of more than LONGEST letters are not counted."""

    @classmethod
    def of_texts(cls, texts: Iterable[str]) -> WordCounts:
        """Counts of some documents."""
        counts = cls(0, *(np.zeros(NUM_BUCKETS, kind) for kind in (np.int64, np.int64, f"S{LONGEST}")))
        for text in texts:
            counts.num_documents += 1
            for word, number in counted_words(text).items():
                bucket, letters = bucket_of(word), word.encode()
                counts.documents[bucket] += 1
                counts.occurrences[bucket] += number
                if not counts.words[bucket] or letters < counts.words[bucket]:
                    counts.words[bucket] = letters
        return counts

    def add(self, other: WordCounts) -> None:
        """Add the counts of other documents. The order in which tables are added makes no difference."""
        self.num_documents += other.num_documents
        self.documents += other.documents
        self.occurrences += other.occurrences
        empty = self.words == b""
        smaller = (other.words != b"") & (empty | (other.words < self.words))
        self.words[smaller] = other.words[smaller]

    def save(self, path: Path) -> None:
        """Write the table into a file."""
        number = np.array(self.num_documents)
        with path.open("wb") as file:
            np.savez_compressed(
                file, num_documents=number, documents=self.documents, occurrences=self.occurrences, words=self.words
            )

    @classmethod
    def load(cls, path: Path) -> WordCounts:
        """A table from its file."""
        with np.load(path, allow_pickle=False) as table:
            arrays = (table[name] for name in ("documents", "occurrences", "words"))
            return cls(int(table["num_documents"]), *arrays)

    def idf_of(self, word: str) -> float:
        """log(documents / documents with the word); of a word that was not counted, as if it stood in one."""
        return self._idf(int(self.documents[bucket_of(word)]))

    def drawn(self, number: float) -> str:
        """The word that a random number in [0, 1) stands for. The chance of a word is in proportion to how far its
        occurrences times idf stay below the highest (UDA, Xie et al. 2020)."""
        words, bounds = self._chances
        return words[min(bisect(bounds, number * bounds[-1]), len(words) - 1)].decode()

    @cached_property
    def _chances(self) -> tuple[list[bytes], list[float]]:
        found = np.flatnonzero(self.documents)
        numbers = zip(self.documents[found].tolist(), self.occurrences[found].tolist(), strict=True)
        scores = [occurrences * self._idf(documents) for documents, occurrences in numbers]
        highest = max(scores)
        chances = [highest - score for score in scores]
        return self.words[found].tolist(), list(accumulate(chances if any(chances) else [1.0] * len(chances)))

    def _idf(self, num_documents: int) -> float:
        return math.log(self.num_documents / max(1, num_documents))


def counted_words(text: str) -> Counter[str]:
    """The plain words of a text, in lower case, that are short enough."""
    return Counter(match[0].lower() for match in prose_words(text) if len(match[0]) <= LONGEST)


def bucket_of(word: str) -> int:
    """The bucket of a word."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little") % NUM_BUCKETS
