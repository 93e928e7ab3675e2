"""The pass over the texts of a corpus: what each document says about itself, before any is compared with others."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.array_files import append_array
from pipeline.corpus.curate_config import CurateConfig, DropReason, reasons_to_drop
from pipeline.corpus.decontamination import Benchmarks
from pipeline.corpus.document_batches import DocumentBatch, read_batches
from pipeline.corpus.document_shards import text_bytes, to_split_of
from pipeline.corpus.documents import SplitName
from pipeline.corpus.drop_verdicts import Verdicts
from pipeline.corpus.held_out_texts import HeldOutTexts, HeldOutWriter
from pipeline.corpus.leakage import SampleWriter
from pipeline.corpus.minhash import signatures
from pipeline.corpus.near_duplicates import SIGNATURES, SIGNED
from pipeline.corpus.repeats import KEYED, key_hash, text_hashes
from pipeline.corpus.shingles import Words, ngrams, words_of
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


@dataclass(frozen=True)
class Scan:
    """What all shards are scanned for."""

    config: CurateConfig
    held_out_folder: Path
    """What HeldOutTexts has gathered, once the sources were scanned that go to held-out splits."""
    benchmarks_folder: Path
    """What `gather_benchmarks` has, where there are any."""
    first_validation: int
    """Number of the first document of sources that go to validation; those that go to test come before."""
    sample_one_in: int

    @cached_property
    def held_out(self) -> HeldOutTexts | None:
        return HeldOutTexts.open(self.held_out_folder)

    @cached_property
    def benchmarks(self) -> Benchmarks | None:
        config = self.config.decontaminate
        return Benchmarks.open(config, self.benchmarks_folder) if config else None

    def reasons_to_leave_out(self, words: Words) -> list[DropReason | None]:
        """Why texts of which these are the words may be in no split, if they are of no held-out source: each holds one
        of those, or a piece of a benchmark."""
        reasons: list[DropReason | None] = [None] * words.num_documents
        if self.benchmarks is not None:
            named = enumerate(self.benchmarks.held_by(words))
            for number, name in named:
                reasons[number] = ("decontaminate", f"in benchmark {name}") if name else None
        if self.held_out is not None:
            held = self.held_out.held_by(words)
            for number in np.flatnonzero(held >= 0).tolist():
                reasons[number] = ("held out", in_source(HELD_OUT[int(held[number] >= self.first_validation)]))
        return reasons


def scan_shard(scan: Scan, shard: Shard, output: Path, report: Report) -> None:
    """Write the verdict on each document of a shard, and of those that pass the hashes of text and group, the signature
    and a sample of the runs of words.

    Documents do not pass that a filter drops, nor those that hold one of a held-out source or a piece of a benchmark;
    of held-out sources all runs of words are written.
    """
    is_held_out = shard.to_split in HELD_OUT
    verdicts = Verdicts()
    with _FactsWriter(scan, shard, output) as writer:
        for batch in read_batches(shard.path):
            num_bytes = int(batch.num_bytes.sum())
            reasons = reasons_to_drop(batch, scan.config.filters)  # filters may take parts of texts away
            passed = np.flatnonzero([reason is None for reason in reasons])
            words = words_of([batch.texts[number] for number in passed.tolist()])
            if not is_held_out:
                left_out = scan.reasons_to_leave_out(words)
                for number, reason in zip(passed.tolist(), left_out, strict=True):
                    reasons[number] = reason
                words = words.keep(np.array([reason is None for reason in left_out], dtype=bool))
            verdicts.add(reasons)
            mask = np.array([reason is None for reason in reasons], dtype=bool)
            writer.write(batch.keep(mask), words, batch.first, mask)
            report(num_bytes)
    verdicts.write(output / VERDICTS)


class _FactsWriter:
    """Writes what is to be known of the documents of a shard that passed."""

    def __init__(self, scan: Scan, shard: Shard, output: Path) -> None:
        self._near = scan.config.likeness
        self._sample_one_in = scan.sample_one_in
        self._is_held_out = shard.to_split in HELD_OUT
        self._first = np.uint32(shard.first)
        self._output = output

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            open_keys = (ShuffleWriter(self._output / name, KEYED) for name in (TEXTS, GROUPS))
            self._texts, self._groups = map(stack.enter_context, open_keys)
            open_files = ((self._output / name).open("wb") for name in (PASSED, HASHES, SIGNED, SIGNATURES))
            self._passed, self._hashes, self._signed, self._signatures = map(stack.enter_context, open_files)
            self._sample = stack.enter_context(SampleWriter(self._output, self._sample_one_in))
            self._held_out = stack.enter_context(HeldOutWriter(self._output)) if self._is_held_out else None
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def write(self, kept: DocumentBatch, words: Words, first: int, mask: NDArray[np.bool_]) -> None:
        """Write the facts of a batch that began at a position and of which those stay where the mask is true."""
        positions = (np.flatnonzero(mask) + first).astype(np.uint32)
        hashes = text_hashes(kept.texts)
        append_array(self._passed, positions)
        append_array(self._hashes, hashes)
        self._write_keys(self._texts, hashes, positions)
        numbers = positions + self._first
        self._sample.write(words, numbers)
        if self._held_out is not None:
            self._held_out.write(words, numbers)
        groups = kept.table.column("group")
        if groups.null_count < len(groups):
            names = groups.to_pylist()
            keys = np.fromiter((key_hash(name or "") for name in names), np.uint64, len(names))
            has_group = np.array([name is not None for name in names])
            self._write_keys(self._groups, keys[has_group], positions[has_group])
        if self._near is not None:
            rows = np.zeros((len(mask), self._near.num_hashes), np.uint16)
            rows[mask] = signatures(ngrams(words, self._near.ngram_words), len(kept), self._near.num_hashes)
            append_array(self._signatures, rows)
            append_array(self._signed, positions[words.counts > 0])

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
