"""How long near-duplicates take to find, beside datasketch on the same text, and whether both find the same.

    pip install -c constraints.txt datasketch
    .venv/bin/python scripts/benchmark_near_duplicates.py --megabytes 8

The text is that of benchmark_corpus.py. Of ours the whole stage is timed, which reads the corpus, drops repeats and
writes splits as well, without near-duplicates ("neither") and with them. Of datasketch it is the signatures (by
`update_batch`) and the index alone: each document is looked up among those that stay, and goes when one is similar
enough by the estimate.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from benchmark_corpus import MEGABYTE, changed_paragraphs

from pipeline.corpus.curate_config import CurateConfig
from pipeline.corpus.document_shards import read_documents, write_shards
from pipeline.corpus.documents import Document
from pipeline.engine.stage import StageContext
from pipeline.executors.local_session import LocalSession
from pipeline.progress import Progress
from pipeline.stages.curate import STAGE

NUM_HASHES = 216


def main(megabytes: float = 8, workers: int = 1, drop_at: float = 0.8) -> None:
    """Print what each takes, and which documents only one of them drops."""
    texts = list(_texts(megabytes * MEGABYTE))
    print(f"{len(texts):,} documents, {megabytes} MB; dropped from a similarity of {drop_at} on")
    stay = {}
    near = {"drop_at": drop_at, "num_hashes": NUM_HASHES}
    kinds = {
        "neither": None,
        "near-duplicates": {**near, "same_split_at": None},
        "and clusters": {**near, "same_split_at": 0.3},
    }
    for name, settings in kinds.items():
        seconds, stay[name] = _curate(texts, {"filters": [], "near_duplicates": settings}, workers)
        print(f"{name:<26}{seconds:>8.2f} s{megabytes / seconds:>8.1f} MB/s{len(stay[name]):>10,} stay")
    started = time.perf_counter()
    stay["datasketch"] = stays_by_datasketch(texts, drop_at, NUM_HASHES)
    seconds = time.perf_counter() - started
    print(f"{'datasketch':<26}{seconds:>8.2f} s{megabytes / seconds:>8.1f} MB/s{len(stay['datasketch']):>10,} stay")
    print(f"only one of them keeps {len(stay['datasketch'] ^ stay['near-duplicates']):,}")


def stays_by_datasketch(texts: Sequence[str], drop_at: float, num_hashes: int) -> set[int]:
    """The numbers of the texts that stay by datasketch's estimates of the similarity of their pairs of words."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=drop_at, num_perm=num_hashes)
    signatures: dict[int, Any] = {}
    for number, text in enumerate(texts):
        words = re.findall(r"\w+", text.casefold())
        signature = MinHash(num_perm=num_hashes, seed=1)
        signature.update_batch([" ".join(pair).encode() for pair in pairwise(words)])
        if all(signature.jaccard(signatures[other]) < drop_at for other in index.query(signature)):
            signatures[number] = signature
            index.insert(number, signature)
    return set(signatures)


def _texts(num_bytes: float) -> Iterator[str]:
    written = 0
    for text in changed_paragraphs():
        if written >= num_bytes:
            return
        written += len(text.encode())
        yield text


def _curate(texts: Sequence[str], settings: dict[str, Any], workers: int) -> tuple[float, set[int]]:
    """Seconds that the stage takes, and the numbers of the texts that stay."""
    with tempfile.TemporaryDirectory() as folder, LocalSession(workers) as session, open(os.devnull, "w") as silence:
        given, made = Path(folder, "in"), Path(folder, "out")
        made.mkdir()
        write_shards(given, (Document(f"{n}", text, "s", f"{n}") for n, text in enumerate(texts)))
        config = CurateConfig.model_validate(settings)
        progress = Progress("curate", silence)
        context = StageContext(config, 0, {"normalize": given}, made, None, workers, progress, session)
        started = time.perf_counter()
        splits = STAGE.run(context)["splits"]
        seconds = time.perf_counter() - started
        return seconds, {int(document.origin) for split in splits for document in read_documents(made / split)}


if __name__ == "__main__":
    typer.run(main)
