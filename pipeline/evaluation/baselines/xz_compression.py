"""Compression by xz."""

from __future__ import annotations

import lzma
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.corpus.document_shards import read_column, read_texts, shard_paths
from pipeline.evaluation.baselines.base_baseline import Coded, Texts

PRESET = 9
DICTIONARY_BYTES = 64 * 2**20
"""How far back `xz -9` looks."""


def xz(texts: Texts) -> dict[str, Coded]:
    """`xz -9` of the held-out documents in one file, each followed by a line break (the model pays for an
    end-of-document token there), alone and after the training text.

    Primed: what the held-out file adds to the compressed size of the training text that fits xz's dictionary, the last
    64 MiB of it. An encoder takes up to 0.7 GB, so at most two run at once. Sizes include xz's container.
    """
    prime = _last_bytes(texts.train_folder, DICTIONARY_BYTES)
    with ThreadPoolExecutor(min(2, texts.num_workers)) as pool:
        together = pool.submit(compressed_size, _chain([prime], _lines(texts.test_folder)))
        primer = pool.submit(compressed_size, [prime])
        alone = pool.submit(compressed_size, _lines(texts.test_folder))
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
