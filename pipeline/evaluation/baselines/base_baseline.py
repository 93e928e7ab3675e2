"""What every baseline of a language model is given, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.tokens.packed_split import PackedSplit

IDS_AT_ONCE = 2**22


@dataclass(frozen=True)
class Texts:
    """The training and the test split: their streams, and the folders of their documents. `bits_a_document` are charged
    for what tokens do not store, as they are to the model."""

    train: PackedSplit
    test: PackedSplit
    train_folder: Path
    test_folder: Path
    bits_a_document: int = 0
    num_workers: int = 1


@dataclass(frozen=True)
class Coded:
    """The bits in which a baseline stores the test documents: of each (documents,), or of all together; and what it
    is, in words."""

    bits: NDArray[np.float64] | float
    what: str


def bits_of_documents(
    texts: Texts, bits_of: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """The bits of each test document, (documents,), of a model that gives bits (n,) to ids (n,) after the ids before
    them (n,); before the first of the stream that is -1.

    It pays for the same tokens as the model does: the first and the end-of-document tokens included, but not for what
    the tokenizer puts before every text.
    """
    test = texts.test
    found = np.full(len(test.document_ends), float(texts.bits_a_document))
    for before, ids, document, counts in walk(test):
        np.add.at(found, document[counts], bits_of(before, ids)[counts])
    return found


def walk(
    split: PackedSplit, first: int = 0
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]]:
    """A stream from its token `first`, in parts: the id before each id (-1 before the first of the stream), the ids,
    the number of the document of each, and whether it counts: the tokens that begin every document do not. All (n,)."""
    num_prefix = len(split.prefix_token_ids)
    starts = np.concatenate([[0], split.document_ends[:-1].astype(np.int64)])
    for start in range(first, split.num_tokens, IDS_AT_ONCE):
        ids = split.stream[start : start + IDS_AT_ONCE].astype(np.int64)
        last = split.stream[start - 1 : start].astype(np.int64) if start else np.array([-1])
        positions = np.arange(start, start + len(ids))
        document = np.searchsorted(split.document_ends, positions.astype(np.uint64), side="right")
        yield np.concatenate([last, ids[:-1]]), ids, document, positions - starts[document] >= num_prefix


def count_ids(split: PackedSplit) -> NDArray[np.int64]:
    """How often each id stands in a stream, but for what stands before every text, (vocab_size,)."""
    counts = np.zeros(split.vocab_size, dtype=np.int64)
    for start in range(0, split.num_tokens, IDS_AT_ONCE):
        counts += np.bincount(split.stream[start : start + IDS_AT_ONCE], minlength=split.vocab_size)
    np.subtract.at(counts, list(split.prefix_token_ids), len(split.document_ends))
    return counts
