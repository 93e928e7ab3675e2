"""The pass over the texts of a corpus: what each document says about itself, before any is compared with others."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.contamination import HeldOutTexts, word_runs, write_runs
from pipeline.corpus.curate_config import CurateConfig, DropReason, reasons_to_drop
from pipeline.corpus.document_batches import DocumentBatch, read_batches
from pipeline.corpus.document_shards import text_bytes, to_split_of
from pipeline.corpus.documents import SplitName
from pipeline.corpus.drop_verdicts import Verdicts
from pipeline.corpus.minhash import signatures
from pipeline.corpus.near_duplicates import SIGNATURES, SIGNED
from pipeline.corpus.repeats import KEYED, key_hash, text_hash
from pipeline.corpus.shingles import ngrams, words_of
from pipeline.corpus.shuffle import ShuffleWriter, buckets_of_hashes
from pipeline.executors.jobs import Report

VERDICTS, PASSED, HASHES, TEXTS, GROUPS = "verdicts", "passed", "hashes", "texts", "groups"
"""How the files are called that are written about a shard."""

HELD_OUT: tuple[SplitName, ...] = ("test", "validation")
"""Splits whose sources keep their texts out of the others; the first keeps them out of the second, too."""


@dataclass(frozen=True)
class Shard:
    """A shard of documents, which are numbered through the corpus."""

    path: Path
    number: int
    """Its place among the shards."""
    first: int
    """Number of its first document."""
    num_documents: int
    num_bytes: int
    to_split: SplitName | None

    @property
    def documents(self) -> range:
        """The numbers of its documents."""
        return range(self.first, self.first + self.num_documents)


def number_shards(paths: Sequence[Path]) -> list[Shard]:
    """Shards in the order of their documents' numbers: those of sources that go to a held-out split come first."""
    import pyarrow.parquet as pq

    shards: list[Shard] = []
    first = 0
    splits = list(map(to_split_of, paths))
    for number in sorted(range(len(paths)), key=lambda n: [splits[n] != split for split in HELD_OUT]):
        num_documents = pq.read_metadata(paths[number]).num_rows
        shards.append(Shard(paths[number], number, first, num_documents, text_bytes(paths[number]), splits[number]))
        first += num_documents
    return shards


def scan_shard(shared: tuple[CurateConfig, Path], shard: Shard, output: Path, report: Report) -> None:
    """Write the verdict on each document of a shard, and of those that pass the hashes of text and group and the
    signature.

    Documents do not pass that a filter drops, and those that hold one of a held-out source; of such sources the runs of
    words are written.
    """
    config, scratch = shared
    is_held_out = shard.to_split in HELD_OUT
    held_out = [] if is_held_out else [one for split in HELD_OUT if (one := HeldOutTexts.open(scratch, split))]
    verdicts = Verdicts()
    runs: list[NDArray[np.uint64]] = []
    with _FactsWriter(config, shard, output) as writer:
        for batch in read_batches(shard.path):
            num_bytes = int(batch.num_bytes.sum())
            reasons = reasons_to_drop(batch, config.filters)  # filters may take parts of texts away
            if held_out:
                pairs = zip(batch.texts, reasons, strict=True)
                reasons = [reason or _reason_to_leave_out(text, held_out) for text, reason in pairs]
            verdicts.add(reasons)
            mask = np.array([reason is None for reason in reasons], dtype=bool)
            kept = batch.keep(mask)
            if is_held_out:
                runs += map(word_runs, kept.texts)
            writer.write(kept, batch.first, mask)
            report(num_bytes)
    verdicts.write(output / VERDICTS)
    if is_held_out:
        write_runs(output / VERDICTS, runs)


def _reason_to_leave_out(text: str, held_out: Sequence[HeldOutTexts]) -> DropReason | None:
    return next((("held out", in_source(one.split)) for one in held_out if one.is_held_by(text)), None)


class _FactsWriter:
    """Writes what is to be known of the documents of a shard that passed."""

    def __init__(self, config: CurateConfig, shard: Shard, output: Path) -> None:
        self._near = config.near_duplicates
        self._first = np.uint32(shard.first)
        self._output = output

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            open_keys = (ShuffleWriter(self._output / name, KEYED) for name in (TEXTS, GROUPS))
            self._texts, self._groups = map(stack.enter_context, open_keys)
            open_files = ((self._output / name).open("wb") for name in (PASSED, HASHES, SIGNED, SIGNATURES))
            self._passed, self._hashes, self._signed, self._signatures = map(stack.enter_context, open_files)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def write(self, kept: DocumentBatch, first: int, mask: NDArray[np.bool_]) -> None:
        """Write the facts of a batch that began at a position and of which those stay where the mask is true."""
        positions = (np.flatnonzero(mask) + first).astype(np.uint32)
        hashes = np.fromiter(map(text_hash, kept.texts), np.uint64, len(kept))
        positions.tofile(self._passed)
        hashes.tofile(self._hashes)
        self._write_keys(self._texts, hashes, positions)
        groups = kept.table.column("group")
        if groups.null_count < len(groups):
            names = groups.to_pylist()
            keys = np.fromiter((key_hash(name or "") for name in names), np.uint64, len(names))
            has_group = np.array([name is not None for name in names])
            self._write_keys(self._groups, keys[has_group], positions[has_group])
        if self._near is not None:
            words = words_of(kept.texts)
            rows = np.zeros((len(mask), self._near.num_hashes), np.uint16)
            rows[mask] = signatures(ngrams(words, self._near.ngram_words), len(kept), self._near.num_hashes)
            rows.tofile(self._signatures)
            positions[words.counts > 0].tofile(self._signed)

    def _write_keys(self, writer: ShuffleWriter, keys: NDArray[np.uint64], positions: NDArray[np.uint32]) -> None:
        records = np.empty(len(keys), KEYED)
        records["key"], records["document"] = keys, positions + self._first
        writer.write(records, buckets_of_hashes(keys))


def in_source(split: SplitName) -> str:
    """The reason for which documents are dropped whose text stands in a source that goes to a held-out split."""
    return f"in the {split} source"


def read_passed(folder: Path) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
    """Positions in the shard of the documents that passed, and the hashes of their texts."""
    return np.fromfile(folder / PASSED, np.uint32), np.fromfile(folder / HASHES, np.uint64)
