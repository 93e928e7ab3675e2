"""Filter, deduplicate and split."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pipeline.corpus.curate_config import CurateConfig, DropReason
from pipeline.corpus.documents import EXCERPT_CHARS, SPLITS
from pipeline.engine.stage import Stage, StageContext
from pipeline.errors import BadDataError
from pipeline.executors.jobs import Report
from pipeline.features import UNICODE

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from pipeline.config import Config
    from pipeline.corpus.clustering import Related
    from pipeline.corpus.corpus_jobs import Jobs
    from pipeline.corpus.judging import Decisions
    from pipeline.corpus.scanning import Scan, Shard
    from pipeline.corpus.shards import Tally
    from pipeline.corpus.splitting import Clusters

DROPPED = "dropped.jsonl"
LEAKAGE = "leakage.json"
PLACES = "places"
"""The file that has for each document the place of its split in SPLITS, or NO_SPLIT."""

LEAKED_SHARE = 0.01
"""Warn if more than this fraction of the compared documents of a split overlaps with training documents."""

WARNED_SHARE = 0.1
"""Warn if more than this fraction of a source or of all documents is dropped, or is one cluster."""


def run(context: StageContext[CurateConfig]) -> dict[str, Any]:
    """Filter shard by shard, find what belongs together in what stays of the whole corpus, then split shard by shard.

    The filters come first: a document that they drop must not take a usable one with it as its repeat. Of documents
    alike the first stays, but that of a source which goes to a held-out split before all others.
    """
    from pipeline.corpus.clustering import Related
    from pipeline.corpus.corpus_jobs import Jobs
    from pipeline.corpus.decontamination import gather_benchmarks
    from pipeline.corpus.document_shards import shard_paths
    from pipeline.corpus.judging import Decisions
    from pipeline.corpus.leakage import keep_one_in
    from pipeline.corpus.paragraphs import find_paragraphs
    from pipeline.corpus.scanning import HELD_OUT, Scan, number_shards
    from pipeline.corpus.shards import Tally, gather_files, join_files

    config = context.config
    scratch = context.output / "scratch"
    scratch.mkdir()
    jobs = Jobs(context.session, context.progress, scratch)
    shards = number_shards(shard_paths(context.inputs["normalize"]))
    held_out = [sum(one.num_documents for one in shards if one.to_split == split) for split in HELD_OUT]
    against = config.decontaminate
    benchmarks = gather_benchmarks(jobs, against, scratch / "benchmarks") if against else {}
    sample = keep_one_in(sum(shard.num_bytes for shard in shards))
    scan = Scan(config, scratch / "held_out", scratch / "benchmarks", held_out[0], sample)
    scanned = _scan(jobs, scan, shards, sum(held_out))
    related = Related.find(jobs, config, shards, scanned)
    clusters = related.decide(scratch / "clusters", config, shards, scanned)
    decisions = Decisions(config, related, clusters, (held_out[0], held_out[1]))
    tasks = sorted(zip(shards, scanned, strict=True), key=lambda task: task[0].number)
    repeated = find_paragraphs(jobs, decisions, tasks) if config.deduplicate_paragraphs else []
    sizes = [shard.num_bytes for shard, _ in tasks]
    done = jobs.on_shards(_split_shard, (decisions, repeated), tasks, sizes, "splitting")
    folders, tally = [folder for folder, _ in done], Tally.total(counts for _, counts in done)
    leakage = _measure_leakage(jobs, scanned, [folders[shard.number] / PLACES for shard in shards], context.output)
    join_files([folder / DROPPED for folder in folders], context.output / DROPPED)
    for folder in folders:
        (folder / DROPPED).unlink()
    gather_files(folders, context.output)
    summary = _summarize(config, tally, related, clusters)
    summary |= {"leakage": leakage, **({"benchmarks": benchmarks} if benchmarks else {})}
    del decisions, clusters
    shutil.rmtree(scratch)
    _check(config, summary)
    warnings = _warnings(config, tally, summary)
    return {**summary, "warnings": warnings} if warnings else summary


def _scan(jobs: Jobs, scan: Scan, shards: Sequence[Shard], num_held_out: int) -> list[Path]:
    """The folder of what each shard's texts say about themselves. Those of held-out sources are asked first: others are
    compared with them."""
    from pipeline.corpus.held_out_texts import HeldOutTexts
    from pipeline.corpus.scanning import HELD_OUT, scan_shard

    def scanned(chosen: Sequence[Shard], label: str) -> list[Path]:
        return [
            folder for folder, _ in jobs.on_shards(scan_shard, scan, chosen, [one.num_bytes for one in chosen], label)
        ]

    held_out = [shard for shard in shards if shard.to_split in HELD_OUT]
    folders = scanned(held_out, "scanning held-out sources") if held_out else []
    if held_out:
        HeldOutTexts.gather(jobs, folders, num_held_out, scan.held_out_folder)
    return folders + scanned(shards[len(held_out) :], "filtering")


def _measure_leakage(
    jobs: Jobs, scanned: Sequence[Path], places: Sequence[Path], output: Path
) -> dict[str, dict[str, Any]]:
    """What of the held-out splits stands in training, which is written to a file as well. `places` has a file of each
    shard, in the order of the documents' numbers."""
    from pipeline.corpus.leakage import measure_leakage
    from pipeline.corpus.shards import join_files

    join_files(list(places), jobs.scratch / PLACES)
    for path in places:
        path.unlink()
    found = measure_leakage(jobs, scanned, jobs.scratch / PLACES)
    (output / LEAKAGE).write_text(json.dumps(found, indent=1) + "\n")
    return found


def _split_shard(
    shared: tuple[Decisions, Sequence[Path]], task: tuple[Shard, Path], output: Path, report: Report
) -> Mapping[str, Counter[str]]:
    """Write the documents that stay, each into its split, and say of the others why they do not."""
    import numpy as np

    from pipeline.corpus.array_files import write_array
    from pipeline.corpus.document_shards import ShardWriter, read_tables
    from pipeline.corpus.edited_tables import edit_table
    from pipeline.corpus.leakage import NO_SPLIT
    from pipeline.corpus.paragraphs import repeated_in
    from pipeline.corpus.shards import Tally

    tally = Tally()
    shard, scanned = task
    decisions, paths = shared
    verdicts, splits = decisions.judge(shard, scanned)
    paragraphs = repeated_in(paths, shard, decisions.related.num_documents)
    writers = {split: ShardWriter(output / split / shard.path.name) for split in SPLITS}
    first = 0
    with (output / DROPPED).open("w", encoding="utf-8") as dropped:
        for table in read_tables(shard.path):
            rows = slice(first, first + len(table))
            first += len(table)
            codes = verdicts.codes[rows]
            for name, count, num_bytes in _sizes_by_source(table):
                tally.add_in(num_bytes, count)
                tally.add("source_in", name, count)
                report(num_bytes)
            repeated = {n - rows.start: paragraphs[n] for n in range(rows.start, first) if n in paragraphs}
            table, failed, changed = edit_table(table, codes == 0, decisions.config.filters, repeated)
            for row, reason in failed.items():
                verdicts.drop(rows.start + row, reason)
            for name, count in changed.items():
                tally.add("changed", name, count)
            tally.add("paragraphs", "dropped", sum(map(len, repeated.values())))
            for name, count, num_bytes in _sizes_by_source(_where(table, codes == 0)):
                tally.add_documents("source", name, num_bytes, count)
            for place, writer in enumerate(writers.values()):
                writer.write_table(_where(table, (codes == 0) & (splits[rows] == place)))
            _tell_dropped(_where(table, codes != 0), verdicts.reasons_of(codes), dropped, tally)
    write_array(output / PLACES, np.where(verdicts.codes == 0, splits, np.uint8(NO_SPLIT)))
    for split, writer in writers.items():
        writer.close()
        tally.add_documents("split", split, writer.num_bytes, writer.num_documents)
        tally.add_out(writer.num_bytes, writer.num_documents)
    return tally.counts


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


def _summarize(config: CurateConfig, tally: Tally, related: Related, clusters: Clusters) -> dict[str, Any]:
    from pipeline.corpus.judging import NEAR

    splits, dropped = tally.documents_of("split"), tally.of("dropped")
    paragraphs = {"repeated_paragraphs": tally.of("paragraphs")["dropped"]} if config.deduplicate_paragraphs else {}
    near = {}
    if related.compared:
        found = {"dropped": dropped.get(NEAR, 0), **clusters.summary, "recall": related.compared.recall}
        near = {"near_duplicates": found}
    return {
        **tally.of("total"),
        "dropped": dropped,
        **near,
        **paragraphs,
        **({"changed": changed} if (changed := tally.of("changed")) else {}),
        "splits": {name: splits[name] for name in SPLITS},
        "sources": tally.documents_of("source"),
    }


def _warnings(config: CurateConfig, tally: Tally, summary: Mapping[str, Any]) -> list[str]:
    """What is to be looked at: sources of which defaults, limits that nobody chose for them, drop a large part; many
    documents dropped, whoever chose the limits; a cluster that is a large part of the corpus."""
    from pipeline.corpus.judging import NEAR, REPEATS

    filters = [] if "filters" in config.model_fields_set else config.filters
    settings = [
        (REPEATS, "deduplicate", f"curate.deduplicate: {config.deduplicate}"),
        (
            NEAR,
            "near_duplicates",
            f"curate.near_duplicates: {config.near_duplicates and config.near_duplicates.drop_at}",
        ),
    ]
    warnings = []
    told = 0
    for source, total in tally.of("source_in").items():
        unset: Counter[str] = Counter()
        for one in filters:
            for reason, count in tally.of(f"{one.type} drops of {source}").items():
                unset[f"{reason} ({one.model_dump()['value']})"] += count
        for reason, name, setting in settings:
            if name not in config.model_fields_set:
                unset[f"{reason} ({setting})"] = tally.of(f"{reason} drops of {source}").get(reason, 0)
        count = sum(unset.values())
        if count > WARNED_SHARE * total:
            told += count
            warnings.append(
                f"defaults drop {count:,} of {total:,} documents of {source} ({count / total:.0%}): {_listed(unset)}; "
                "set curate.filters, deduplicate and near_duplicates to what suits them, be it the same"
            )
    total, dropped = summary["documents_in"], sum(summary["dropped"].values())
    if dropped - told > WARNED_SHARE * total:
        warnings.append(
            f"{dropped:,} of {total:,} documents ({dropped / total:.0%}) were dropped: {_listed(summary['dropped'])}"
        )
    largest, stays = summary.get("near_duplicates", {}).get("largest_cluster", 0), summary["documents_out"]
    if largest > WARNED_SHARE * stays:
        warnings.append(
            f"{largest:,} of {stays:,} documents that stay ({largest / stays:.0%}) "
            "are one cluster of near-duplicates, or of groups, and share a split; a higher "
            "curate.near_duplicates.same_split_at makes smaller clusters"
        )
    for split, found in summary["leakage"].items():
        if found["overlapping"] > LEAKED_SHARE * found["compared"]:
            warnings.append(
                f"{found['overlapping']:,} of {found['compared']:,} {split} documents ({found['share']:.1%}) have half "
                "of their runs of eight words or more in common with training documents: figures on them flatter; a "
                "lower curate.near_duplicates.same_split_at, or `group_field` of the sources, keeps more of what "
                "belongs together in one split"
            )
    return warnings


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in Counter(counts).most_common() if count > 0)


def _check(config: CurateConfig, summary: dict[str, Any]) -> None:
    if summary["documents_out"] == 0:
        raise BadDataError(
            f"curate: every document was dropped ({_listed(summary['dropped'])}); loosen the limits of curate"
        )
    for split in SPLITS:
        if summary["splits"][split]["documents"] == 0:
            hint = f"raise curate.{split}_fraction, " if split != "train" else ""
            clustered = summary.get("near_duplicates", {}).get("documents_in_clusters", 0)
            if clustered:
                hint += (
                    f"raise curate.near_duplicates.same_split_at (clusters, which share a split, have {clustered:,} "
                    "of the documents), "
                )
            raise BadDataError(
                f"curate: no document fell into {split} of {summary['documents_out']:,}; {hint}add documents or "
                f"a source with `split: {split}`, or cut text files "
                'into documents with the `separator` of their source, such as "\\n\\n"'
            )


def _check_settings(config: Config) -> None:
    """The models and lists of filters can be read, what reads the benchmarks is installed, and they have the fields."""
    for one in config.curate.filters:
        one.check()
    if config.curate.decontaminate:
        from pipeline.corpus.decontamination import check_benchmarks

        for source in config.curate.decontaminate.against:
            source.check()
        check_benchmarks(config.curate.decontaminate)


STAGE = Stage(
    name="curate",
    version=7,
    config=CurateConfig,
    run=run,
    works_on_shards=True,
    inputs=("normalize",),
    check=_check_settings,
    facts=lambda config: UNICODE,  # of what is visible, what is white space, and what case folding gives
    records=(DROPPED,),
    self_checked_files=("*shard-*.parquet",),
)
