"""What a model must beat, in bits of the held-out documents."""

from __future__ import annotations

import lzma
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.document_shards import read_column, read_texts, shard_paths
from pipeline.tokens.packed_split import PackedSplit

PRESET = 9
DICTIONARY_BYTES = 64 * 2**20
"""How far back `xz -9` looks."""

IDS_AT_ONCE = 2**22


@dataclass(frozen=True)
class Coded:
    """The bits in which a baseline stores the test documents: of each (documents,), or of all together."""

    bits: NDArray[np.float64] | float
    what: str


def unigram(train: PackedSplit, test: PackedSplit, bits_a_document: int = 0) -> Coded:
    """A model that knows only how often each token occurs in the training stream, with add-one smoothing.

    It pays for the same tokens as the model does: the first and the end-of-document tokens included, but not for what
    the tokenizer puts before every text. `bits_a_document` are charged as for the model.
    """
    counts = _count_ids(train) + 1
    bits = -np.log2(counts / counts.sum())
    free = bits[list(test.prefix_token_ids)].sum()
    of_documents = np.full(len(test.document_ends), bits_a_document - free)
    for start in range(0, test.num_tokens, IDS_AT_ONCE):
        ids = test.stream[start : start + IDS_AT_ONCE]
        positions = np.arange(start, start + len(ids), dtype=np.uint64)
        np.add.at(of_documents, np.searchsorted(test.document_ends, positions, side="right"), bits[ids])
    return Coded(of_documents, "tokens drawn independently, as often as in the training stream (add-one smoothing)")


def xz(train_folder: Path, test_folder: Path, num_workers: int) -> dict[str, Coded]:
    """`xz -9` of the held-out documents in one file, each followed by a line break (the model pays for an
    end-of-document token there), alone and after the training text.

    Primed: what the held-out file adds to the compressed size of the training text that fits xz's dictionary, the last
    64 MiB of it. An encoder takes up to 0.7 GB, so at most two run at once. Sizes include xz's container.
    """
    prime = _last_bytes(train_folder, DICTIONARY_BYTES)
    with ThreadPoolExecutor(min(2, num_workers)) as pool:
        together = pool.submit(compressed_size, _chain([prime], _lines(test_folder)))
        primer = pool.submit(compressed_size, [prime])
        alone = pool.submit(compressed_size, _lines(test_folder))
    return {
        "xz": Coded(8.0 * alone.result(), "xz -9 of the held-out documents joined into one file"),
        "xz_primed": Coded(
            8.0 * (together.result() - primer.result()),
            "what the held-out documents add to the training text under xz -9, for information",
        ),
    }


def compressed_size(parts: Iterable[bytes]) -> int:
    """Bytes of the .xz file that `xz -9` makes of the parts joined together."""
    compressor = lzma.LZMACompressor(preset=PRESET)
    return sum(len(compressor.compress(part)) for part in parts) + len(compressor.flush())


def _lines(folder: Path) -> Iterable[bytes]:
    return ((text + "\n").encode() for text in read_texts(folder))


def _chain(*groups: Iterable[bytes]) -> Iterable[bytes]:
    for group in groups:
        yield from group


def _last_bytes(folder: Path, limit: int) -> bytes:
    """The last `limit` bytes of a folder's documents, each followed by a line break; reads no more shards than that."""
    shards: list[bytes] = []
    missing = limit
    for path in reversed(shard_paths(folder)):
        shards.insert(0, "".join(text + "\n" for text in read_column(path, "text")).encode()[-missing:])
        missing -= len(shards[0])
        if missing == 0:
            break
    return b"".join(shards)


def _count_ids(split: PackedSplit) -> NDArray[np.int64]:
    """How often each id stands in a stream, but for what stands before every text, (vocab_size,)."""
    counts = np.zeros(split.vocab_size, dtype=np.int64)
    for start in range(0, split.num_tokens, IDS_AT_ONCE):
        counts += np.bincount(split.stream[start : start + IDS_AT_ONCE], minlength=split.vocab_size)
    np.subtract.at(counts, list(split.prefix_token_ids), len(split.document_ends))
    return counts
