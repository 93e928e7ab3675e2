"""Raw text from its sources into documents."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.corpus import IngestConfig
from pipeline.errors import BadDataError
from pipeline.stages.contract import Stage, StageContext

if TYPE_CHECKING:
    from pipeline.corpus.documents import Document
    from pipeline.corpus.readers import Part
    from pipeline.corpus.shards import Tally
    from pipeline.corpus.sources import AnySource


def run(context: StageContext) -> dict[str, Any]:
    """Read every source into shards of documents; write what was rejected, with place and reason."""
    from pipeline.corpus.readers import reading_tasks
    from pipeline.corpus.shards import map_shards

    section = context.section
    assert isinstance(section, IngestConfig)
    parts = context.output / "parts"
    tasks = [(source, group, parts / f"{n:06d}") for n, (source, group) in enumerate(reading_tasks(section))]
    size = sum(part.num_bytes for _, group, _ in tasks for part in group)
    tally = map_shards(_read_group, tasks, size, context.num_workers, context.progress, "reading")
    _gather([folder for _, _, folder in tasks], context.output)
    shutil.rmtree(parts)
    _check(section, tally, context.output / "rejected.jsonl")
    sources = tally.documents_of("source")
    return {
        "documents_out": sum(source["documents"] for source in sources.values()),
        "bytes_out": sum(source["bytes"] for source in sources.values()),
        "rejected": tally.of("rejected"),
        "sources": sources,
    }


def _read_group(source: AnySource, group: list[Part], folder: Path) -> Tally:
    from pipeline.corpus.documents import write_shards
    from pipeline.corpus.readers import Rejected, read_parts
    from pipeline.corpus.shards import Tally

    tally = Tally()
    folder.mkdir(parents=True)
    with (folder / "rejected.jsonl").open("w", encoding="utf-8") as rejected:

        def accepted() -> Iterator[Document]:
            for record in read_parts(source, group):
                if isinstance(record, Rejected):
                    tally.add("rejected", record.reason)
                    tally.add("source_rejected", source.name)
                    rejected.write(json.dumps(asdict(record)) + "\n")
                else:
                    tally.add_documents("source", source.name, record.num_bytes)
                    yield record

        write_shards(folder, accepted())
    return tally


def _gather(folders: list[Path], output: Path) -> None:
    """Number the shards of all groups in order, and join their lists of rejected records."""
    from pipeline.corpus.documents import shard_name, shard_paths
    from pipeline.corpus.shards import join_files

    shards = [path for folder in folders for path in shard_paths(folder)]
    for number, path in enumerate(shards):
        os.rename(path, output / shard_name(number))
    join_files([folder / "rejected.jsonl" for folder in folders], output / "rejected.jsonl")


def _check(section: IngestConfig, tally: Tally, rejects: Path) -> None:
    accepted = tally.of("source_documents")
    for name, num_rejected in tally.of("source_rejected").items():
        records = accepted.get(name, 0) + num_rejected
        if num_rejected > section.max_rejected_fraction * records:
            with rejects.open(encoding="utf-8") as file:
                first = next(entry for line in file if (entry := json.loads(line))["source"] == name)
            raise BadDataError(
                f"ingest: {num_rejected:,} of {records:,} records of {name} are unusable, the first is "
                f"{first['origin']} ({first['reason']}); mend them, or raise ingest.max_rejected_fraction "
                f"{section.max_rejected_fraction}"
            )
    if not accepted:
        raise BadDataError("ingest: the sources hold no document; add files with text")


def _files(section: IngestConfig) -> dict[str, list[Path]]:
    from pipeline.corpus.sources import labelled_files

    return labelled_files(section)


STAGE = Stage(name="ingest", version=2, run=run, records=("rejected.jsonl",), files=_files)
