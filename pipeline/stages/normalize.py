"""Repair and unify the text of each document."""

from __future__ import annotations

from collections import Counter
from itertools import chain
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
    from pipeline.corpus.document_batches import read_batches
    from pipeline.corpus.document_shards import ShardWriter, to_split_of
    from pipeline.corpus.normalize_config import normalize
    from pipeline.corpus.shards import Tally

    tally = Tally()
    writer = ShardWriter(target, to_split_of(source))
    for batch in read_batches(source):
        tally.add_in(int(batch.num_bytes.sum()), len(batch))
        batch.texts, labels = normalize(batch.texts, config.steps)
        for label, count in Counter(chain.from_iterable(labels)).items():
            tally.add("changed", label, count)
        batch.changes = [tuple(f"normalize:{label}" for label in own) for own in labels]
        writer.write_batch(batch)
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
