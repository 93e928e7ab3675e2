"""Raw text from its sources into documents."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from pipeline.corpus.documents import Document, FilePart, Rejected
from pipeline.corpus.ingest_config import IngestConfig
from pipeline.corpus.sources import Source
from pipeline.engine.stage import Stage, StageContext
from pipeline.errors import BadDataError
from pipeline.executors.jobs import Job, Report

if TYPE_CHECKING:
    from pipeline.corpus.shards import Tally

MAX_LISTED = 10_000
"""Rejected records that each task lists, beside unreadable files; all of them are counted."""

DOUBTFUL_SHARE = 0.1
"""Warn if more than this fraction of a source's documents looks misread."""

DOUBTS = {
    "uncut": "are longer than a megabyte in spite of the separator; see whether it is what stands between documents",
    "in quotation marks": "stand in quotation marks, which are kept; set quotechar: '\"' if they are no part of them",
    "in single quotation marks": (
        'stand in single quotation marks, which are kept; set quotechar: "\'" if they are no part of them'
    ),
    "escaped line breaks": r"hold \n in two characters and no line break; write breaks into the source if they are",
}


def run(context: StageContext[IngestConfig]) -> dict[str, Any]:
    """Read every source into shards of documents; write what was rejected, with place and reason."""
    from pipeline.corpus.readers.reading_jobs import reading_tasks
    from pipeline.corpus.shards import map_shards

    config = context.config
    groups = list(reading_tasks(config))
    names = [source.name for source in config.sources]
    tasks = [(names.index(source.name), group) for source, group in groups]
    sizes = [sum(part.num_bytes for part in group) for _, group in groups]
    scratch = context.output / "scratch"
    job = Job(_read_group, config.sources, tasks, sizes, scratch, "reading")
    folders, tally = map_shards(context.session, job, context.progress)
    _gather(folders, context.output)
    shutil.rmtree(scratch)
    size_of: Counter[str] = Counter()
    for (source, _), size in zip(groups, sizes, strict=True):
        size_of[source.name] += size
    _check(config, tally, size_of, context.output / "rejected.jsonl")
    counts = tally.documents_of("source")
    warnings = _warnings(tally)
    return {
        "documents_out": sum(source["documents"] for source in counts.values()),
        "bytes_out": sum(source["bytes"] for source in counts.values()),
        "rejected": tally.of("rejected"),
        "sources": counts,
        **({"warnings": warnings} if warnings else {}),
    }


def _read_group(
    sources: Sequence[Source], task: tuple[int, list[FilePart]], output: Path, report: Report
) -> Mapping[str, Counter[str]]:
    from pipeline.corpus.document_shards import write_shards
    from pipeline.corpus.readers.reading_jobs import read_parts
    from pipeline.corpus.shards import Tally

    number, group = task
    source = sources[number]
    tally = Tally()
    num_rejected = 0
    with (output / "rejected.jsonl").open("w", encoding="utf-8") as rejected:

        def is_accepted(record: Document | Rejected) -> TypeGuard[Document]:
            nonlocal num_rejected
            if not isinstance(record, Rejected):
                for doubt in source.doubts(record):
                    tally.add(doubt, source.name)
                if record.group is None:
                    tally.add("without_group", source.name)
                return True
            tally.add("rejected", record.reason)
            tally.add("source_rejected", source.name)
            tally.add("lost_bytes", source.name, record.lost_bytes)
            num_rejected += 1
            if num_rejected <= MAX_LISTED or record.lost_bytes:
                rejected.write(json.dumps(asdict(record)) + "\n")
            return False

        # A filter keeps no record, as a loop here would while a long one is written.
        records = filter(is_accepted, read_parts(source, group, output / "scratch"))
        num_documents, num_bytes = write_shards(output, records, source.split, report)
    if num_documents:
        tally.add_documents("source", source.name, num_bytes, num_documents)
    shutil.rmtree(output / "scratch", ignore_errors=True)
    return tally.counts


def _gather(folders: list[Path], output: Path) -> None:
    """Number the shards of all groups in order, and join their lists of rejected records."""
    from pipeline.corpus.document_shards import shard_name, shard_paths
    from pipeline.corpus.shards import join_files

    shards = [path for folder in folders for path in shard_paths(folder)]
    for number, path in enumerate(shards):
        os.rename(path, output / shard_name(number))
    join_files([folder / "rejected.jsonl" for folder in folders], output / "rejected.jsonl")


def _check(config: IngestConfig, tally: Tally, sizes: Mapping[str, int], rejects: Path) -> None:
    """Raises BadDataError when too much of a source is unusable: of its records, or of its bytes where files could
    not be read to their end, for how many records those hold is not known; and when none is of a group although the
    source names a field of groups, since they would be split without it."""
    accepted, lost = tally.of("source_documents"), tally.of("lost_bytes")
    share = config.max_rejected_fraction
    for name, num_rejected in tally.of("source_rejected").items():
        records = accepted.get(name, 0) + num_rejected
        if lost[name] > share * sizes[name]:
            found = f"{lost[name]:,} of {sizes[name]:,} bytes of {name} are in files that cannot be read whole"
            first = _first(rejects, name, lambda entry: entry["lost_bytes"] > 0)
        elif num_rejected > share * records:
            found = f"{num_rejected:,} of {records:,} records of {name} are unusable"
            first = _first(rejects, name, lambda entry: True)
        else:
            continue
        raise BadDataError(
            f"ingest: {found}, the first is {first}; mend them or what the source says of them, "
            f"or raise ingest.max_rejected_fraction {share}"
        )
    if not accepted:
        raise BadDataError("ingest: the sources hold no document; add files with text")
    for source in config.sources:
        field = getattr(source, "group_field", None)
        if field and tally.of("without_group").get(source.name) == accepted.get(source.name, 0):
            raise BadDataError(
                f"ingest: no document of {source.name} has a value in {field!r}; mend its group_field, or remove it"
            )


def _warnings(tally: Tally) -> list[str]:
    """What is doubtful about many of a source's documents."""
    accepted = tally.of("source_documents")
    return [
        f"{count:,} of {accepted[name]:,} texts of {name} {words}"
        for doubt, words in DOUBTS.items()
        for name, count in tally.of(doubt).items()
        if count > DOUBTFUL_SHARE * accepted[name]
    ]


def _first(rejects: Path, source: str, wanted: Callable[[dict[str, Any]], bool]) -> str:
    with rejects.open(encoding="utf-8") as file:
        entries = (json.loads(line) for line in file)
        entry = next(entry for entry in entries if entry["source"] == source and wanted(entry))
    return f"{entry['origin']} ({': '.join(filter(None, (entry['reason'], entry['detail'])))})"


def _check_sources(config: Any) -> None:
    for source in config.ingest.sources:
        source.check()


STAGE = Stage(
    name="ingest",
    version=7,
    config=IngestConfig,
    run=run,
    works_on_shards=True,
    records=("rejected.jsonl",),
    self_checked_files=("*shard-*.parquet",),
    check=_check_sources,
)
