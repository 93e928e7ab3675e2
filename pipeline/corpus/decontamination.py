"""Find documents that hold a piece of a benchmark."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.array_files import write_array
from pipeline.corpus.corpus_jobs import Jobs
from pipeline.corpus.decontamination_config import SETTING, Decontamination
from pipeline.corpus.documents import Document, FilePart, Rejected
from pipeline.corpus.hash_index import HashIndex, map_array
from pipeline.corpus.ingest_config import IngestConfig
from pipeline.corpus.readers.reading_jobs import read_parts, reading_tasks
from pipeline.corpus.shards import Tally, join_files
from pipeline.corpus.shingles import Words, ngrams, words_of
from pipeline.corpus.shuffle import ShuffleWriter, buckets_of_hashes, read_part
from pipeline.corpus.sources.base_local_files import LocalFiles
from pipeline.corpus.sources.base_records import Records
from pipeline.errors import BadDataError
from pipeline.executors.jobs import Report

FEWEST_WORDS = 8
"""A benchmark's text with fewer is a phrase, which many texts hold."""

LOOKED_AT = 100
"""Records of a benchmark that are looked at before the first stage."""

NO_FIELD = re.compile(r"no (field|column) ")

BATCH = 1000
"""Benchmark texts that are read at once."""

RUN = np.dtype([("hash", "<u8"), ("benchmark", "<u2")])
RUNS, NAMES, SIZES = "benchmark_runs", "names", "sizes"


def check_benchmarks(config: Decontamination) -> None:
    """Raises BadDataError where the fields of a benchmark's first records, in files on this machine, are not those that
    its source says."""
    for source in config.against:
        if not isinstance(source, LocalFiles) or not isinstance(source, Records) or not source.find_files():
            continue
        with tempfile.TemporaryDirectory() as scratch:
            parts = [part for part in source.whole_files() if part.remote is None][:1]
            records = list(islice(source.read(parts, Path(scratch)), LOOKED_AT))
        if records and all(isinstance(one, Rejected) and NO_FIELD.match(one.reason) for one in records):
            raise BadDataError(f"{source.place}: {parts[0].origin}: {why_unusable(records[0])}; mend the name")


def why_unusable(record: Document | Rejected) -> str:
    """In words."""
    return ": ".join(filter(None, (record.reason, record.detail))) if isinstance(record, Rejected) else ""


def gather_benchmarks(jobs: Jobs, config: Decontamination, folder: Path) -> dict[str, dict[str, int]]:
    """Write the runs of words of all benchmarks to a folder. Gives for each benchmark the number of its texts, of those
    too short to be looked for, and of unusable records.

    Raises BadDataError where a benchmark has no text that could be looked for.
    """
    groups = reading_tasks(IngestConfig(sources=config.against))
    names = [source.name for source in config.against]
    tasks = [(names.index(source.name), parts) for source, parts in groups]
    sizes = [sum(part.num_bytes for part in parts) for _, parts in groups]
    read = jobs.on_shards(write_benchmark_runs, config, tasks, sizes, "reading benchmarks")
    tally = Tally.total(counts for _, counts in read)
    counted = ("texts", "too_short", "rejected")
    summary = {name: {what: tally.of(what).get(name, 0) for what in counted} for name in names}
    for name, found in summary.items():
        if found["texts"] == found["too_short"]:
            first = "".join(f", the first: {why}" for why in islice(tally.of(f"unusable in {name}"), 1))
            raise BadDataError(
                f"{SETTING}: {name} has no text of {FEWEST_WORDS} words or more ({found['texts']:,} shorter "
                f"ones, {found['rejected']:,} unusable records{first}); see whether its fields are what `against` says"
            )
        if found["too_short"]:
            jobs.progress.say(
                f"{name}: {found['too_short']:,} of {found['texts']:,} texts have fewer than {FEWEST_WORDS} words and "
                "are not looked for"
            )
    paths = [place / RUNS for place, _ in read]
    sorted_parts = [place for place, _ in jobs.on_parts(sort_benchmark_runs, paths, paths, RUN, "sorting benchmarks")]
    folder.mkdir()
    HashIndex.gather([one / RUNS for one in sorted_parts], folder)
    join_files([one / NAMES for one in sorted_parts], folder / NAMES)
    write_array(folder / SIZES, np.array(sorted(map(int, tally.of("sizes"))), np.int64))
    return summary


def write_benchmark_runs(
    config: Decontamination, task: tuple[int, list[FilePart]], output: Path, report: Report
) -> Mapping[str, Counter[str]]:
    """Write the runs of words of a benchmark's texts."""
    number, parts = task
    source = config.against[number]
    tally = Tally()
    records = read_parts(source, parts, output / "scratch")
    with ShuffleWriter(output / RUNS, RUN) as writer:
        while batch := list(islice(records, BATCH)):
            texts = [record.text for record in batch if not isinstance(record, Rejected)]
            words = words_of(texts)
            counts = words.counts
            runs = ngrams(words, config.ngram_words)
            hashes = np.unique(runs.hashes[counts[runs.document] >= FEWEST_WORDS])
            found = np.empty(len(hashes), RUN)
            found["hash"], found["benchmark"] = hashes, number
            writer.write(found, buckets_of_hashes(hashes))
            tally.add("texts", source.name, len(texts))
            tally.add("too_short", source.name, int(np.count_nonzero(counts < FEWEST_WORDS)))
            tally.add("rejected", source.name, len(batch) - len(texts))
            if not texts and not tally.of(f"unusable in {source.name}"):
                tally.add(f"unusable in {source.name}", why_unusable(batch[0]))
            for size in np.unique(np.minimum(counts[counts >= FEWEST_WORDS], config.ngram_words)).tolist():
                tally.add("sizes", str(size))
            report(sum(map(len, texts)))
    shutil.rmtree(output / "scratch", ignore_errors=True)
    return tally.counts


def sort_benchmark_runs(paths: Sequence[Path], buckets: range, output: Path, report: Report) -> None:
    """Write the different runs of some buckets sorted, with the first benchmark that has each."""
    runs = np.sort(read_part(paths, RUN, buckets), order=["hash", "benchmark"])
    is_first = np.ones(len(runs), dtype=bool)
    is_first[1:] = runs["hash"][1:] != runs["hash"][:-1]
    write_array(output / RUNS, runs["hash"][is_first])
    write_array(output / NAMES, runs["benchmark"][is_first])


@dataclass(frozen=True)
class Benchmarks:
    """The runs of words of all benchmarks, in files, which processes share."""

    config: Decontamination
    runs: HashIndex
    names: NDArray[np.uint16]
    """The place in `config.against` of the first benchmark that has each run."""
    sizes: NDArray[np.int64]
    """Words in a run: of whole ones, and of texts that are shorter."""

    @classmethod
    def open(cls, config: Decontamination, folder: Path) -> Self:
        """What `gather_benchmarks` has left in a folder."""
        names, sizes = map_array(folder / NAMES, np.uint16), np.fromfile(folder / SIZES, np.int64)
        return cls(config, HashIndex.open(folder), names, sizes)

    def held_by(self, words: Words) -> list[str | None]:
        """The name of a benchmark of which each text holds more than it may: of the first that has one of its runs."""
        least = np.full(words.num_documents, len(self.config.against), np.uint16)
        for size in self.sizes.tolist():
            runs = ngrams(words, size)
            which, places = self.runs.find(runs.hashes)
            texts = runs.document[which]
            number, found = (np.bincount(one, minlength=words.num_documents) for one in (runs.document, texts))
            too_many = found > self.config.max_share * number
            chosen = too_many[texts]
            np.minimum.at(least, texts[chosen], self.names[places[chosen]])
        names = [*(source.name for source in self.config.against), None]
        return [names[number] for number in least.tolist()]
