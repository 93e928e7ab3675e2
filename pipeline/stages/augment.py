"""Altered copies of training documents, and the weights of sources."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.corpus.augment_config import AugmentConfig
from pipeline.engine.stage import Stage, StageContext
from pipeline.errors import BadDataError

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.corpus.shards import Tally


def run(context: StageContext[AugmentConfig]) -> dict[str, Any]:
    """Write the training split again: each original as often as its source's weight says, and its altered copies."""
    from pipeline.corpus.document_shards import shard_paths, text_bytes
    from pipeline.corpus.shards import map_shards

    config = context.config
    shards = shard_paths(context.inputs["curate"] / "train")
    tasks = [(path, context.output / "train" / path.name, config, context.seed) for path in shards]
    size = text_bytes(shards)
    tally = map_shards(_augment_shard, tasks, size, context.num_workers, context.progress, "augmenting")
    summary = {**tally.of("total"), "dropped": tally.of("dropped"), "changed": tally.of("changed")}
    if summary["documents_out"] == 0:
        raise BadDataError(
            "augment: the weights of the sources leave nothing to train on; raise ingest.sources weights"
        )
    return summary


def _augment_shard(source: Path, target: Path, config: AugmentConfig, seed: int) -> Tally:
    from pipeline.corpus.augment_config import Augmenter, derived
    from pipeline.corpus.document_shards import ShardWriter, read_shard
    from pipeline.corpus.shards import Tally

    tally = Tally()
    augmenter = Augmenter(config, seed)
    writer = ShardWriter(target)
    for document in read_shard(source):
        tally.add_in(document.num_bytes)
        repeats = augmenter.repeats(document)
        if repeats == 0:
            tally.add("dropped", "weight of the source")
            continue
        writer.write(document)
        for number in range(1, repeats):
            writer.write(derived(document, f"w{number}", document.text, ["augment:repeated"]))
            tally.add("changed", "repeated for the source's weight")
        for copy in augmenter.copies(document):
            writer.write(copy)
            tally.add("changed", "altered copies")
            for change in copy.changes[len(document.changes) :]:
                tally.add("changed", f"copies with {change.removeprefix('augment:').partition('(')[0]}")
    writer.close()
    tally.add_out(writer.num_bytes, writer.num_documents)
    return tally


def _uses_seed(config: Config) -> bool:
    """Which documents get copies and what is done to them, and which are repeated for a weight that is not whole."""
    return config.augment.fraction > 0 or any(not source.weight.is_integer() for source in config.ingest.sources)


STAGE = Stage(
    name="augment",
    version=3,
    config=AugmentConfig,
    run=run,
    inputs=("curate/train",),
    uses_seed=_uses_seed,
    self_checked_files=("*shard-*.parquet",),
)
