"""Which documents of a corpus have a key that an earlier one has: the same text, the same group."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.corpus.shuffle import ShuffleWriter, buckets_of_numbers, read_part
from pipeline.executors.jobs import Report

KEYED = np.dtype([("key", "<u8"), ("document", "<u4")])
"""A document by its number in the corpus, with the hash of what it may share with others."""

LINK = np.dtype([("document", "<u4"), ("earlier", "<u4")])
"""Two documents that belong together."""

LINKS = "links"
"""How the file is called in the folder of each task that finds some."""


def text_hash(text: str) -> int:
    """64 bits of a text's content, equal for texts that differ only in case and white space.

    Among n different texts the chance that any two collide is about n**2 / 2**65: one in 40 for a thousand million.
    """
    return key_hash(" ".join(text.split()).casefold())


def key_hash(key: str) -> int:
    """64 bits of a string."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def link_repeats(shared: tuple[Sequence[Path], int], buckets: range, output: Path, report: Report) -> None:
    """Link the documents of each key to the first of them. Keys were shuffled by their hashes, links are by document:
    `shared` has the files of the keys and the number of documents in the corpus."""
    paths, num_documents = shared
    records = np.sort(read_part(paths, KEYED, buckets), order=["key", "document"])
    is_first = np.ones(len(records), dtype=bool)
    is_first[1:] = records["key"][1:] != records["key"][:-1]
    firsts = records["document"][np.flatnonzero(is_first)[np.cumsum(is_first) - 1]]
    links = np.empty(int(np.count_nonzero(~is_first)), LINK)
    links["document"], links["earlier"] = records["document"][~is_first], firsts[~is_first]
    with ShuffleWriter(output / LINKS, LINK) as writer:
        writer.write(links, buckets_of_numbers(links["document"], num_documents))
