"""Altered copies of training documents."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.corpus.augment_config import AugmentConfig
from pipeline.engine.stage import Stage, StageContext, counts_in_words
from pipeline.executors.jobs import Job, Report

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.corpus.augmenting import Augmenter, Budget, Copy
    from pipeline.corpus.provenance import CopyWriter
    from pipeline.corpus.shards import Tally

COUNTS = "counts.npz"

COPIES = "altered copies"

FEW = 0.1
"""A warning tells when less than this part of the wanted copies stayed."""


def run(context: StageContext[AugmentConfig]) -> dict[str, Any]:
    """Take the shards of the training split over as they are. A shard of altered copies follows each of them, and
    `provenance/` says how they were made. With nothing to do no text is read."""
    from pipeline.corpus.document_shards import count_documents, shard_paths, text_bytes
    from pipeline.corpus.shards import Tally, gather_files, map_shards

    shards = shard_paths(context.inputs["curate"] / "train")
    sizes = list(map(text_bytes, shards))
    scratch = context.output / "scratch"
    for path in shards:
        context.link(path, f"train/{path.name}")
    if not context.config.makes_copies:
        tally, num_documents = Tally(), count_documents(context.output / "train")
        tally.add_in(sum(sizes), num_documents)
        tally.add_out(sum(sizes), num_documents)
        doubts = context.config.early_warnings()
        return {**tally.of("total"), "dropped": {}, "changed": {}} | ({"warnings": doubts} if doubts else {})
    counts = _count_words(context, shards, sizes, scratch) if context.config.needs_word_counts else None
    shared = (context.config, context.seed, counts)
    job = Job(_augment_shard, shared, shards, sizes, scratch / "augmenting", "augmenting")
    folders, tally = map_shards(context.session, job, context.progress)
    gather_files(folders, context.output)
    shutil.rmtree(scratch)
    summary: dict[str, Any] = {**tally.of("total"), "dropped": {}, "changed": tally.of("changed")}
    if dropped := tally.of("copies_dropped"):
        summary["copies_dropped"] = dropped
    if left := tally.of("left_unchanged"):
        summary["left_unchanged"] = left
    if doubts := _doubts(summary["changed"].get(COPIES, 0), dropped):
        summary["warnings"] = doubts
    return summary


def _doubts(made: int, dropped: Mapping[str, int]) -> list[str]:
    """That few of the copies stayed, those for which there was no room aside where there are any."""
    from pipeline.corpus.augmenting import NO_ROOM

    for_others = {reason: count for reason, count in dropped.items() if reason != NO_ROOM}
    why = for_others if made else dropped
    wanted = made + sum(why.values())
    if made >= FEW * wanted:
        return []
    largest = max(why, key=lambda reason: why[reason])
    return [f"{made:,} of {wanted:,} altered copies stayed, {why[largest]:,} were dropped: {largest}"]


def _in_words(summary: Mapping[str, Any]) -> str:
    words = [counts_in_words(summary)]
    if made := summary["changed"].get(COPIES, 0):
        words.append(f"{made:,} {COPIES}")
    dropped = summary.get("copies_dropped", {})
    return "; ".join(words + [f"{count:,} copies dropped: {reason}" for reason, count in dropped.items()])


def _count_words(context: StageContext[AugmentConfig], shards: list[Path], sizes: list[int], scratch: Path) -> Path:
    """Count the words of all training documents into one file."""
    from pipeline.corpus.shards import map_shards
    from pipeline.corpus.word_counts import WordCounts

    job = Job(_count_shard, None, shards, sizes, scratch / "counting", "counting words")
    total = WordCounts.of_texts(())
    for folder in map_shards(context.session, job, context.progress)[0]:
        total.add(WordCounts.load(folder / COUNTS))
    total.save(scratch / COUNTS)
    return scratch / COUNTS


def _count_shard(shared: None, source: Path, output: Path, report: Report) -> Mapping[str, Counter[str]]:
    from pipeline.corpus.document_shards import read_column
    from pipeline.corpus.documents import utf8_length
    from pipeline.corpus.word_counts import WordCounts

    def texts() -> Iterator[str]:
        for text in read_column(source, "text"):
            yield text
            report(utf8_length(text))

    WordCounts.of_texts(texts()).save(output / COUNTS)
    return {}


def _augment_shard(
    shared: tuple[AugmentConfig, int, Path | None], source: Path, output: Path, report: Report
) -> Mapping[str, Counter[str]]:
    from pipeline.corpus.augmenting import Augmenter, Budget
    from pipeline.corpus.document_shards import read_shard
    from pipeline.corpus.provenance import CopyWriter
    from pipeline.corpus.shards import Tally
    from pipeline.corpus.word_counts import WordCounts

    config, seed, counts = shared
    tally = Tally()
    augmenter = Augmenter(config, seed, WordCounts.load(counts) if counts is not None else None)
    budget = Budget(config.max_added)
    copies = CopyWriter(source, output)
    for batch in augmenter.batches(read_shard(source)):
        for document, made in zip(batch, augmenter.copies(batch, budget), strict=True):
            tally.add_in(document.num_bytes)
            tally.add_out(document.num_bytes)
            budget.add_original(document.num_bytes)
            for copy in made:
                _write_copy(copy, augmenter, budget, copies, tally)
            report(document.num_bytes)
    copies.close()
    tally.add_out(copies.num_bytes, copies.num_documents)
    return tally.counts


def _write_copy(copy: Copy, augmenter: Augmenter, budget: Budget, writer: CopyWriter, tally: Tally) -> None:
    from pipeline.corpus.augmenting import NO_ROOM

    for left, count in copy.left.items():
        tally.add("left_unchanged", left, count)
    document = copy.document()
    reason = augmenter.reason_to_drop(copy)
    if reason is None and not budget.has_room(document.num_bytes):
        reason = NO_ROOM
    if reason is not None:
        tally.add("copies_dropped", reason)
        return
    writer.write(document, copy)
    tally.add("changed", COPIES)
    for name in dict.fromkeys(operation["type"] for operation in copy.operations):
        tally.add("changed", f"copies with {name}")


def _check(config: Config) -> None:
    """The libraries and models of operations are there, where they are to do anything."""
    if config.augment.makes_copies:
        for operation in (one for way in config.augment.ways for one in way.operations):
            operation.check()


def _uses_seed(config: Config) -> bool:
    """Which documents get copies and what is done to them."""
    return bool(config.augment.makes_copies)


STAGE = Stage(
    name="augment",
    version=6,
    config=AugmentConfig,
    run=run,
    works_on_shards=True,
    inputs=("curate/train",),
    uses_seed=_uses_seed,
    check=_check,
    early_warnings=lambda config: config.early_warnings(),
    summary_line=_in_words,
    self_checked_files=("*shard-*.parquet",),
)
