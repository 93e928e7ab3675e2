"""Jobs that find which paragraphs of a corpus stand there before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.corpus.corpus_jobs import Jobs
from pipeline.corpus.document_batches import column_texts
from pipeline.corpus.document_shards import read_tables
from pipeline.corpus.documents import SPLITS
from pipeline.corpus.edited_tables import BREAKS, edited_texts
from pipeline.corpus.judging import Decisions
from pipeline.corpus.repeats import text_hash
from pipeline.corpus.scanning import Shard
from pipeline.corpus.shuffle import ShuffleWriter, buckets_of_hashes, buckets_of_numbers, read_numbers, read_part
from pipeline.executors.jobs import Report

PARAGRAPH = np.dtype([("key", "<u8"), ("rank", "u1"), ("document", "<u4"), ("place", "<u4")])
"""A paragraph: the hash of its text, the order in which the split of its document comes, the number of the document in
the corpus, and its place there."""

REPEATED = np.dtype([("document", "<u4"), ("place", "<u4")])
"""A paragraph that stands in an earlier document, or before in its own."""

PARAGRAPHS, REPEATS = "paragraphs", "repeated"
"""How the files are called in the folders of tasks."""


def find_paragraphs(jobs: Jobs, decisions: Decisions, scanned: Sequence[tuple[Shard, Path]]) -> list[Path]:
    """Files of the paragraphs that are repeated in documents that stay; `scanned` has the shards and what is known of
    them."""
    num_documents = decisions.related.num_documents
    sizes = [shard.num_bytes for shard, _ in scanned]
    done = jobs.on_shards(note_paragraphs, decisions, scanned, sizes, "reading paragraphs")
    noted = [folder / PARAGRAPHS for folder, _ in done]
    found = jobs.on_parts(find_repeated, (noted, num_documents), noted, PARAGRAPH, "finding paragraphs")
    return [folder / REPEATS for folder, _ in found]


def note_paragraphs(decisions: Decisions, task: tuple[Shard, Path], output: Path, report: Report) -> None:
    """Write the paragraphs of the documents of a shard that stay, as the filters leave them."""
    shard, scanned = task
    config = decisions.config
    assert config.deduplicate_paragraphs is not None
    verdicts, splits = decisions.judge(shard, scanned)
    ranks = np.uint8(len(SPLITS) - 1) - splits  # SPLITS ends with test
    first = 0
    with ShuffleWriter(output / PARAGRAPHS, PARAGRAPH) as writer:
        for table in read_tables(shard.path, ["text"]):
            texts = column_texts(table.column("text"))
            stay = np.flatnonzero(verdicts.codes[first : first + len(texts)] == 0)
            left, _ = edited_texts([texts[row] for row in stay.tolist()], config.filters)
            stay += first
            records = paragraphs_of(left, stay + shard.first, ranks[stay], config.deduplicate_paragraphs.min_chars)
            writer.write(records, buckets_of_hashes(records["key"]))
            first += len(texts)
            report(table.column("text").nbytes)


def paragraphs_of(texts: Sequence[str], documents: npt.NDArray, ranks: npt.NDArray, min_chars: int) -> npt.NDArray[Any]:
    """The paragraphs of at least `min_chars` of some documents."""
    rows = [
        (text_hash(part), rank, document, place)
        for text, document, rank in zip(texts, documents.tolist(), ranks.tolist(), strict=True)
        for place, part in enumerate(BREAKS.split(text)[::2])
        if len(part) >= min_chars
    ]
    return np.array(rows, PARAGRAPH)


def find_repeated(shared: tuple[Sequence[Path], int], buckets: range, output: Path, report: Report) -> None:
    """Write the paragraphs that repeat the first of their key. Paragraphs were shuffled by their hashes, repeated ones
    are by document: `shared` has the files of paragraphs and the number of documents in the corpus."""
    paths, num_documents = shared
    records = np.sort(read_part(paths, PARAGRAPH, buckets), order=["key", "rank", "document", "place"])
    is_repeated = np.zeros(len(records), dtype=bool)
    is_repeated[1:] = records["key"][1:] == records["key"][:-1]
    found = np.empty(int(np.count_nonzero(is_repeated)), REPEATED)
    for name in ("document", "place"):
        found[name] = records[name][is_repeated]
    with ShuffleWriter(output / REPEATS, REPEATED) as writer:
        writer.write(found, buckets_of_numbers(found["document"], num_documents))
    report(records.nbytes)


def repeated_in(paths: Sequence[Path], shard: Shard, num_documents: int) -> dict[int, set[int]]:
    """For documents of a shard, by position, the places of their repeated paragraphs; `paths` are what
    `find_paragraphs` gives."""
    found: dict[int, set[int]] = {}
    for document, place in read_numbers(paths, REPEATED, "document", shard.documents, num_documents).tolist():
        found.setdefault(document - shard.first, set()).add(place)
    return found
