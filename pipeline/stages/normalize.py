"""Repair and unify the text of each document."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pipeline.corpus.normalize_config import NormalizeConfig
from pipeline.engine.stage import Stage, StageContext
from pipeline.executors.jobs import Job, Report


def run(context: StageContext[NormalizeConfig]) -> dict[str, Any]:
    """Normalize shard by shard; a document without visible text afterwards is left to curate's filters. A shard in
    which no step changes anything is taken over as it is."""
    from pipeline.corpus.document_shards import shard_paths, text_bytes
    from pipeline.corpus.shards import gather_files, map_shards

    shards = shard_paths(context.inputs["ingest"])
    scratch = context.output / "scratch"
    sizes = list(map(text_bytes, shards))
    job = Job(_normalize_shard, context.config, shards, sizes, scratch, "normalizing")
    folders, tally = map_shards(context.session, job, context.progress)
    for path, folder in zip(shards, folders, strict=True):
        if not (folder / path.name).exists():
            context.link(path, path.name)
    gather_files(folders, context.output)
    shutil.rmtree(scratch)
    return {**tally.of("total"), "changed": tally.of("changed")}


def _normalize_shard(config: NormalizeConfig, source: Path, output: Path, report: Report) -> Mapping[str, Counter[str]]:
    from pipeline.corpus.document_batches import read_batches
    from pipeline.corpus.document_shards import ShardWriter, read_tables, to_split_of
    from pipeline.corpus.normalize_config import normalize
    from pipeline.corpus.shards import Tally

    tally = Tally()
    writer = None
    for number, batch in enumerate(read_batches(source)):
        num_bytes = int(batch.num_bytes.sum())
        tally.add_in(num_bytes, len(batch))
        batch.texts, labels = normalize(batch.texts, config.steps)
        for label, count in Counter(chain.from_iterable(labels)).items():
            tally.add("changed", label, count)
        batch.changes = [tuple(f"normalize:{label}" for label in own) for own in labels]
        tally.add_out(int(batch.num_bytes.sum()) if any(labels) else num_bytes, len(batch))
        if writer is None and any(labels):
            writer = ShardWriter(output / source.name, to_split_of(source))
            for table in islice(read_tables(source), number):
                writer.write_table(table)
        if writer is not None:
            writer.write_batch(batch)
        report(num_bytes)
    if writer is not None:
        writer.close()
    return tally.counts


STAGE = Stage(
    name="normalize",
    version=5,
    config=NormalizeConfig,
    run=run,
    works_on_shards=True,
    inputs=("ingest",),
    self_checked_files=("*shard-*.parquet",),
)
