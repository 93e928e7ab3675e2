"""Filter, deduplicate and split."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.corpus.curate_config import CurateConfig
from pipeline.corpus.documents import SPLITS, SplitName
from pipeline.engine.stage import Stage, StageContext
from pipeline.errors import BadDataError
from pipeline.features import UNICODE

if TYPE_CHECKING:
    from pipeline.corpus.contamination import HeldOutTexts
    from pipeline.corpus.shards import Tally

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
    from pipeline.corpus.shards import join_files, map_shards

    config = context.config
    shards = shard_paths(context.inputs["normalize"])
    size = text_bytes(shards)
    scratch = context.output / "scratch"
    scratch.mkdir()
    to_split = {path: to_split_of(path) for path in shards}
    tasks = [(path, scratch / path.stem, config, to_split[path] in HELD_OUT) for path in shards]
    map_shards(_filter_shard, tasks, size, context.num_workers, context.progress, "filtering")
    for split in HELD_OUT:
        if bases := [scratch / path.stem for path in shards if to_split[path] == split]:
            HeldOutTexts.write(scratch, split, bases)
    if config.deduplicate == "exact":
        ordered = sorted(shards, key=lambda path: [to_split[path] != split for split in HELD_OUT])
        find_repeats([ShardHashes(scratch / path.stem) for path in ordered])
    sorting = [(path, scratch / path.stem, context.output, config, to_split[path]) for path in shards]
    tally = map_shards(_split_shard, sorting, size, context.num_workers, context.progress, "splitting")
    join_files([scratch / f"{path.stem}.jsonl" for path in shards], context.output / "dropped.jsonl")
    shutil.rmtree(scratch)
    summary = _summarize(tally)
    _check(config, summary)
    warnings = _warnings(config, tally)
    return {**summary, "warnings": warnings} if warnings else summary


def _filter_shard(source: Path, scratch: Path, config: CurateConfig, is_held_out: bool) -> Tally:
    """Write the filters' verdict on each document, and the hashes of those that stay; of held-out ones also their runs
    of words."""
    from pipeline.corpus.contamination import word_runs, write_runs
    from pipeline.corpus.curate_config import reason_to_drop
    from pipeline.corpus.dedup import ShardHashes, text_hash
    from pipeline.corpus.document_shards import read_shard
    from pipeline.corpus.shards import Tally

    reasons: list[tuple[str, str] | None] = []
    hashes: list[int] = []
    runs = []
    for document in read_shard(source):
        reasons.append(reason_to_drop(document, config.filters))
        if reasons[-1] is None:
            hashes.append(text_hash(document.text))
            if is_held_out:
                runs.append(word_runs(document.text))
    scratch.with_suffix(".reasons").write_text(json.dumps(reasons))
    ShardHashes(scratch).write(hashes)
    if is_held_out:
        write_runs(scratch, runs)
    return Tally()


def _split_shard(source: Path, scratch: Path, output: Path, config: CurateConfig, to_split: SplitName | None) -> Tally:
    """Write the documents that stay, each into its split, and say of the others why they do not."""
    from pipeline.corpus.contamination import HeldOutTexts
    from pipeline.corpus.dedup import ShardHashes
    from pipeline.corpus.document_shards import ShardWriter, read_shard
    from pipeline.corpus.shards import Tally
    from pipeline.corpus.splitting import split_of_hash

    tally = Tally()
    reasons = json.loads(scratch.with_suffix(".reasons").read_text())
    hashes = enumerate(ShardHashes(scratch).read().tolist())
    repeats = ShardHashes(scratch).read_repeats()
    others = HELD_OUT[: HELD_OUT.index(to_split)] if to_split in HELD_OUT else HELD_OUT
    held_out = [texts for split in others if (texts := HeldOutTexts.open(scratch.parent, split)) is not None]
    writers = {split: ShardWriter(output / split / source.name) for split in SPLITS}
    with scratch.with_suffix(".jsonl").open("w", encoding="utf-8") as dropped:
        for document, failed in zip(read_shard(source), reasons, strict=True):
            tally.add_in(document.num_bytes)
            tally.add("source_in", document.source)
            if failed is None:
                position, value = next(hashes)
                split = to_split or split_of_hash(value, config)
                failed = _reason_to_leave_out(document.text, value, split, held_out)
                if failed is None and position in repeats:
                    failed = (REPEATS, REPEATS)
            if failed is None:
                tally.add_documents("source", document.source, document.num_bytes)
                writers[split].write(document)
                continue
            kind, reason = failed
            tally.add(f"{kind} drops of {document.source}", reason)
            tally.add("dropped", reason)
            place = {"id": document.id, "source": document.source, "origin": document.origin, "reason": reason}
            dropped.write(json.dumps({**place, "excerpt": document.text[:200]}) + "\n")
    for split, writer in writers.items():
        writer.close()
        tally.add_documents("split", split, writer.num_bytes, writer.num_documents)
        tally.add_out(writer.num_bytes, writer.num_documents)
    return tally


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
    version=3,
    config=CurateConfig,
    run=run,
    inputs=("normalize",),
    facts=lambda config: UNICODE,  # of what is visible, what is white space, and what case folding gives
    records=("dropped.jsonl",),
    self_checked_files=("*shard-*.parquet",),
)
