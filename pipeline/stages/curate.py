"""Filter, deduplicate and split."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.corpus import CurateConfig
from pipeline.errors import BadDataError
from pipeline.stages.contract import Stage, StageContext

if TYPE_CHECKING:
    from pipeline.corpus.shards import Tally


def run(context: StageContext) -> dict[str, Any]:
    """Hash every document, find repeats over the whole corpus, then filter and split shard by shard."""
    from pipeline.corpus.dedup import find_repeats
    from pipeline.corpus.documents import shard_paths
    from pipeline.corpus.shards import map_shards

    section = context.section
    assert isinstance(section, CurateConfig)
    shards = shard_paths(context.inputs["normalize"])
    scratch = context.output / "scratch"
    (scratch / "repeats").mkdir(parents=True)
    repeats: list[Path | None] = [None] * len(shards)
    if section.deduplicate == "exact":
        hashes = [scratch / f"{path.stem}.npy" for path in shards]
        tasks = list(zip(shards, hashes, strict=True))
        map_shards(_hash_shard, tasks, context.num_workers, context.progress, "hashing")
        repeats = list(find_repeats(hashes, scratch / "repeats"))
    sorting = [(path, flags, context.output, scratch, section) for path, flags in zip(shards, repeats, strict=True)]
    tally = map_shards(_curate_shard, sorting, context.num_workers, context.progress, "filtering")
    with (context.output / "dropped.jsonl").open("wb") as joined:
        for path in shards:
            with (scratch / f"{path.stem}.jsonl").open("rb") as part:
                shutil.copyfileobj(part, joined)
    shutil.rmtree(scratch)
    summary = _summarize(tally)
    _check(section, summary)
    return summary


def _hash_shard(source: Path, target: Path) -> Tally:
    import numpy as np

    from pipeline.corpus.dedup import text_hash
    from pipeline.corpus.documents import read_texts_of_shard
    from pipeline.corpus.shards import Tally

    np.save(target, np.fromiter((text_hash(text) for text in read_texts_of_shard(source)), dtype=np.uint64))
    return Tally()


def _curate_shard(source: Path, repeats: Path | None, output: Path, scratch: Path, section: CurateConfig) -> Tally:
    import numpy as np

    from pipeline.corpus.documents import ShardWriter, read_shard
    from pipeline.corpus.filters import reason_to_drop
    from pipeline.corpus.shards import Tally
    from pipeline.corpus.splitting import SPLITS, split_of

    tally = Tally()
    flags = np.load(repeats) if repeats is not None else None
    writers = {split: ShardWriter(output / split / source.name) for split in SPLITS}
    with (scratch / f"{source.stem}.jsonl").open("w", encoding="utf-8") as dropped:
        for position, document in enumerate(read_shard(source)):
            size = document.num_bytes
            tally.add("total", "documents_in")
            tally.add("total", "bytes_in", size)
            reason = reason_to_drop(document.text, section)
            if reason is None and flags is not None and flags[position]:
                reason = "repeats an earlier document"
            if reason is not None:
                tally.add("dropped", reason)
                place = {"id": document.id, "source": document.source, "origin": document.origin, "reason": reason}
                dropped.write(json.dumps({**place, "excerpt": document.text[:200]}) + "\n")
                continue
            tally.add("source_documents", document.source)
            tally.add("source_bytes", document.source, size)
            writers[split_of(document.text, section)].write(document)
    for split, writer in writers.items():
        writer.close()
        tally.add("split_documents", split, writer.num_documents)
        tally.add("split_bytes", split, writer.num_bytes)
    return tally


def _summarize(tally: Tally) -> dict[str, Any]:
    def both(group: str) -> dict[str, dict[str, int]]:
        sizes = tally.of(f"{group}_bytes")
        return {name: {"documents": n, "bytes": sizes[name]} for name, n in tally.of(f"{group}_documents").items()}

    splits = both("split")
    return {
        **tally.of("total"),
        "documents_out": sum(split["documents"] for split in splits.values()),
        "bytes_out": sum(split["bytes"] for split in splits.values()),
        "dropped": tally.of("dropped"),
        "splits": {name: splits[name] for name in ("train", "validation", "test")},
        "sources": both("source"),
    }


def _check(section: CurateConfig, summary: dict[str, Any]) -> None:
    if summary["documents_out"] == 0:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in summary["dropped"].items())
        raise BadDataError(f"curate: every document was dropped ({reasons}); loosen the limits of curate")
    wanted = {"train": 1.0, "validation": section.validation_fraction, "test": section.test_fraction}
    for split, fraction in wanted.items():
        if fraction > 0 and summary["splits"][split]["documents"] == 0:
            hint = f"raise curate.{split}_fraction or add documents" if split != "train" else "add documents"
            raise BadDataError(f"curate: no document fell into {split} of {summary['documents_out']:,}; {hint}")


STAGE = Stage(name="curate", version=1, run=run, inputs=("normalize",))
