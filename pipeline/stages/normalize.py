"""Repair and unify the text of each document."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.corpus.normalize_config import NormalizeConfig
from pipeline.engine.stage import Stage, StageContext

if TYPE_CHECKING:
    from pipeline.corpus.shards import Tally


def run(context: StageContext[NormalizeConfig]) -> dict[str, Any]:
    """Normalize shard by shard; a document without visible text afterwards is left to curate's filters."""
    from pipeline.corpus.document_shards import shard_paths, text_bytes
    from pipeline.corpus.shards import map_shards

    config = context.config
    shards = shard_paths(context.inputs["ingest"])
    tasks = [(path, context.output / path.name, config) for path in shards]
    size = text_bytes(shards)
    tally = map_shards(_normalize_shard, tasks, size, context.num_workers, context.progress, "normalizing")
    return {**tally.of("total"), "changed": tally.of("changed")}


def _normalize_shard(source: Path, target: Path, config: NormalizeConfig) -> Tally:
    from pipeline.corpus.document_shards import ShardWriter, read_shard, to_split_of
    from pipeline.corpus.normalize_config import normalize
    from pipeline.corpus.shards import Tally

    tally = Tally()
    writer = ShardWriter(target, to_split_of(source))
    for document in read_shard(source):
        tally.add_in(document.num_bytes)
        for name in normalize(document, config.steps):
            tally.add("changed", name)
        writer.write(document)
    writer.close()
    tally.add_out(writer.num_bytes, writer.num_documents)
    return tally


STAGE = Stage(
    name="normalize",
    version=3,
    config=NormalizeConfig,
    run=run,
    inputs=("ingest",),
    self_checked_files=("*shard-*.parquet",),
)
