"""Filter, deduplicate and split."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pipeline.corpus.curate_config import CurateConfig, DropReason
from pipeline.corpus.documents import EXCERPT_CHARS, SPLITS, SplitName
from pipeline.engine.stage import Stage, StageContext
from pipeline.errors import BadDataError
from pipeline.executors.jobs import Job, Report
from pipeline.features import UNICODE

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from pipeline.corpus.contamination import HeldOutTexts
    from pipeline.corpus.dedup import Hashes
    from pipeline.corpus.drop_verdicts import Verdicts
    from pipeline.corpus.shards import Tally

DROPPED = "dropped.jsonl"
FACTS = "shard"
"""How the files are called, without suffix, that the first pass writes about a shard."""

REPEATS = "repeats an earlier document"
HELD_OUT: tuple[SplitName, ...] = ("test", "validation")
"""Splits whose sources keep their texts out of the others; the first keeps them out of the second, too."""

WARNED_SHARE = 0.1
"""Warn if the default filters drop more than this fraction of a source."""


def run(context: StageContext[CurateConfig]) -> dict[str, Any]:
    """Filter shard by shard, find repeats among what stays of the whole corpus, then split shard by shard.

    The filters come first: a document that they drop must not take a usable one with it as its repeat. Of repeats the
    first stays, but that of a source which goes to a held-out split before all others.
    """
    from pipeline.corpus.contamination import HeldOutTexts
    from pipeline.corpus.dedup import ShardHashes, find_repeats
    from pipeline.corpus.document_shards import shard_paths, text_bytes, to_split_of
    from pipeline.corpus.shards import gather_files, join_files, map_shards

    config = context.config
    shards = shard_paths(context.inputs["normalize"])
    sizes = list(map(text_bytes, shards))
    scratch = context.output / "scratch"
    to_split = [to_split_of(path) for path in shards]
    tasks = [(path, split in HELD_OUT) for path, split in zip(shards, to_split, strict=True)]
    filtering = Job(_filter_shard, config, tasks, sizes, scratch / "filtering", "filtering")
    bases = [folder / FACTS for folder in map_shards(context.session, filtering, context.progress)[0]]
    for split in HELD_OUT:
        if held_out := [base for base, own in zip(bases, to_split, strict=True) if own == split]:
            HeldOutTexts.write(scratch, split, held_out)
    if config.deduplicate == "exact":
        ordered = sorted(range(len(bases)), key=lambda n: [to_split[n] != split for split in HELD_OUT])
        find_repeats([ShardHashes(bases[n]) for n in ordered])
    sorting = list(zip(shards, bases, to_split, strict=True))
    splitting = Job(_split_shard, (config, scratch), sorting, sizes, scratch / "splitting", "splitting")
    folders, tally = map_shards(context.session, splitting, context.progress)
    join_files([folder / DROPPED for folder in folders], context.output / DROPPED)
    for folder in folders:
        (folder / DROPPED).unlink()
    gather_files(folders, context.output)
    shutil.rmtree(scratch)
    summary = _summarize(tally)
    _check(config, summary)
    warnings = _warnings(config, tally)
    return {**summary, "warnings": warnings} if warnings else summary


def _filter_shard(
    config: CurateConfig, task: tuple[Path, bool], output: Path, report: Report
) -> Mapping[str, Counter[str]]:
    """Write the filters' verdict on each document, and the hashes of those that stay; of held-out ones also their runs
    of words."""
    from pipeline.corpus.contamination import word_runs, write_runs
    from pipeline.corpus.curate_config import reasons_to_drop
    from pipeline.corpus.dedup import ShardHashes, text_hash
    from pipeline.corpus.document_batches import read_batches
    from pipeline.corpus.drop_verdicts import Verdicts

    source, is_held_out = task
    verdicts = Verdicts()
    hashes: list[int] = []
    runs: list[Hashes] = []
    for batch in read_batches(source):
        reasons = reasons_to_drop(batch, config.filters)
        verdicts.add(reasons)
        kept = [text for text, reason in zip(batch.texts, reasons, strict=True) if reason is None]
        hashes += map(text_hash, kept)
        if is_held_out:
            runs += map(word_runs, kept)
        report(int(batch.num_bytes.sum()))
    verdicts.write(output / FACTS)
    ShardHashes(output / FACTS).write(hashes)
    if is_held_out:
        write_runs(output / FACTS, runs)
    return {}


def _split_shard(
    shared: tuple[CurateConfig, Path], task: tuple[Path, Path, SplitName | None], output: Path, report: Report
) -> Mapping[str, Counter[str]]:
    """Write the documents that stay, each into its split, and say of the others why they do not."""
    from pipeline.corpus.document_shards import ShardWriter, read_tables
    from pipeline.corpus.edited_tables import edit_table
    from pipeline.corpus.shards import Tally

    tally = Tally()
    source, base, to_split = task
    verdicts, splits = _judge(*shared, source, base, to_split)
    writers = {split: ShardWriter(output / split / source.name) for split in SPLITS}
    first = 0
    with (output / DROPPED).open("w", encoding="utf-8") as dropped:
        for table in read_tables(source):
            rows = slice(first, first + len(table))
            first += len(table)
            codes = verdicts.codes[rows]
            for name, count, num_bytes in _sizes_by_source(table):
                tally.add_in(num_bytes, count)
                tally.add("source_in", name, count)
                report(num_bytes)
            table = edit_table(table, codes == 0, shared[0].filters)
            for name, count, num_bytes in _sizes_by_source(_where(table, codes == 0)):
                tally.add_documents("source", name, num_bytes, count)
            for place, writer in enumerate(writers.values()):
                writer.write_table(_where(table, (codes == 0) & (splits[rows] == place)))
            _tell_dropped(_where(table, codes != 0), verdicts.reasons_of(codes), dropped, tally)
    for split, writer in writers.items():
        writer.close()
        tally.add_documents("split", split, writer.num_bytes, writer.num_documents)
        tally.add_out(writer.num_bytes, writer.num_documents)
    return tally.counts


def _judge(
    config: CurateConfig, scratch: Path, source: Path, base: Path, to_split: SplitName | None
) -> tuple[Verdicts, NDArray[np.intp]]:
    """What is to become of each document of a shard, and the place in SPLITS of the split of those that stay."""
    import numpy as np

    from pipeline.corpus.contamination import HeldOutTexts
    from pipeline.corpus.dedup import ShardHashes
    from pipeline.corpus.document_batches import column_texts
    from pipeline.corpus.document_shards import read_tables
    from pipeline.corpus.drop_verdicts import Verdicts
    from pipeline.corpus.splitting import splits_of_hashes

    verdicts = Verdicts.read(base)
    passed = np.flatnonzero(verdicts.codes == 0)
    hashes = ShardHashes(base).read()
    splits = np.zeros(len(verdicts.codes), dtype=np.intp)
    splits[passed] = SPLITS.index(to_split) if to_split else splits_of_hashes(hashes, config)
    others = HELD_OUT[: HELD_OUT.index(to_split)] if to_split in HELD_OUT else HELD_OUT
    held_out = [texts for split in others if (texts := HeldOutTexts.open(scratch, split)) is not None]
    verdicts.drop(passed[ShardHashes(base).read_repeats()], (REPEATS, REPEATS))
    if held_out:
        values = iter(hashes.tolist())
        is_passed = np.isin(np.arange(len(splits)), passed)
        every = (text for table in read_tables(source, ["text"]) for text in column_texts(table.column("text")))
        for number, text in enumerate(every):
            if is_passed[number]:
                reason = _reason_to_leave_out(text, next(values), SPLITS[splits[number]], held_out)
                if reason is not None:
                    verdicts.drop(number, reason)
    return verdicts, splits


def _where(table: pa.Table, mask: NDArray[np.bool_]) -> pa.Table:
    import pyarrow as pa

    return table if mask.all() else table.filter(pa.array(mask))


def _sizes_by_source(table: pa.Table) -> list[tuple[str, int, int]]:
    """Name, number of documents and bytes of text of each source in a table."""
    import pyarrow.compute as pc

    sizes = table.select(["source"]).append_column("bytes", pc.binary_length(table.column("text")))
    totals = sizes.group_by("source", use_threads=False).aggregate([("bytes", "count"), ("bytes", "sum")]).to_pydict()
    return list(zip(totals["source"], totals["bytes_count"], totals["bytes_sum"], strict=True))


def _tell_dropped(table: pa.Table, reasons: Sequence[DropReason], dropped: TextIO, tally: Tally) -> None:
    """Count documents that do not stay, and list them with their beginnings."""
    import pyarrow.compute as pc

    excerpts = pc.utf8_slice_codeunits(table.column("text"), 0, EXCERPT_CHARS).to_pylist()
    rows = table.select(["id", "source", "origin"]).to_pylist()
    for row, excerpt, (kind, reason) in zip(rows, excerpts, reasons, strict=True):
        tally.add(f"{kind} drops of {row['source']}", reason)
        tally.add("dropped", reason)
        dropped.write(json.dumps({**row, "reason": reason, "excerpt": excerpt}) + "\n")


def _reason_to_leave_out(
    text: str, value: int, split: SplitName, held_out: Sequence[HeldOutTexts]
) -> tuple[str, str] | None:
    """Why a text may not stand in its split: it repeats one of a held-out source, or holds most of it and is to be
    trained on."""
    for texts in held_out:
        if texts.repeats(value) or (split == "train" and texts.is_held_by(text)):
            return "held out", f"in the {texts.split} source"
    return None


def _summarize(tally: Tally) -> dict[str, Any]:
    splits = tally.documents_of("split")
    return {
        **tally.of("total"),
        "dropped": tally.of("dropped"),
        "splits": {name: splits[name] for name in SPLITS},
        "sources": tally.documents_of("source"),
    }


def _warnings(config: CurateConfig, tally: Tally) -> list[str]:
    """A warning for each source of which defaults, limits that nobody chose for it, drop a large part."""
    filters = [] if "filters" in config.model_fields_set else config.filters
    warnings = []
    for source, total in tally.of("source_in").items():
        unset: Counter[str] = Counter()
        for one in filters:
            for reason, count in tally.of(f"{one.type} drops of {source}").items():
                unset[f"{reason} ({one.model_dump()['value']})"] += count
        if "deduplicate" not in config.model_fields_set:
            repeats = tally.of(f"{REPEATS} drops of {source}").get(REPEATS, 0)
            unset[f"{REPEATS} (curate.deduplicate: {config.deduplicate})"] = repeats
        count = sum(unset.values())
        if count > WARNED_SHARE * total:
            reasons = ", ".join(f"{n:,} {reason}" for reason, n in unset.most_common() if n > 0)
            warnings.append(
                f"defaults drop {count:,} of {total:,} documents of {source} ({count / total:.0%}): {reasons}; "
                "set curate.filters and deduplicate to what suits them, be it the same"
            )
    return warnings


def _check(config: CurateConfig, summary: dict[str, Any]) -> None:
    if summary["documents_out"] == 0:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in summary["dropped"].items())
        raise BadDataError(f"curate: every document was dropped ({reasons}); loosen the limits of curate")
    for split in SPLITS:
        if summary["splits"][split]["documents"] == 0:
            hint = f"raise curate.{split}_fraction, " if split != "train" else ""
            raise BadDataError(
                f"curate: no document fell into {split} of {summary['documents_out']:,}; {hint}add documents or "
                f"a source with `split: {split}`, or cut text files "
                'into documents with the `separator` of their source, such as "\\n\\n"'
            )


STAGE = Stage(
    name="curate",
    version=4,
    config=CurateConfig,
    run=run,
    inputs=("normalize",),
    facts=lambda config: UNICODE,  # of what is visible, what is white space, and what case folding gives
    records=(DROPPED,),
    self_checked_files=("*shard-*.parquet",),
)
