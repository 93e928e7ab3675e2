"""pack: lay windows over the token streams, or make sequences of the documents with labels."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

from pipeline import atomic
from pipeline.engine.stage import Stage, StageContext
from pipeline.tokens.packing import PackConfig


def run(context: StageContext) -> dict[str, Any]:
    """Write `<split>/pack.json`, from which pipeline.tokens.reader finds every window in the streams of encode.

    With labels, also `<split>/sequences.npy` and `targets.npy` for its reader, and `labels/classes.json`.
    """
    from pipeline.tokens.packing import pack_contiguous

    config = context.config
    assert isinstance(config, PackConfig)
    encoded = json.loads((context.inputs["encode"] / "encode.json").read_bytes())
    if config.strategy != "contiguous":
        return _pack_labelled(context, config, encoded)
    with context.progress.task("packing", total=len(encoded["splits"]), unit="splits") as task:
        splits = {}
        for split in encoded["splits"]:
            packed = pack_contiguous(encoded, split, config.block_size)
            (context.output / split).mkdir()
            atomic.write_json(context.output / split / "pack.json", packed)
            splits[split] = {name: packed[name] for name in ("windows", "tokens", "target_tokens")}
            task.update()
    return {"block_size": config.block_size, "splits": splits}


def _pack_labelled(context: StageContext, config: PackConfig, encoded: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    from pipeline.tokens import labelled_split

    assert config.strategy != "contiguous"
    encode, task = context.inputs["encode"], config.strategy
    labels = {split: labelled_split.read_stream_labels(encode, split) for split in encoded["splits"]}
    classes = labelled_split.classes_of(labels["train"]) if task == "classification" else None
    warnings = labelled_split.doubtful_classes(chain.from_iterable(labels.values())) if classes is not None else []
    (context.output / labelled_split.CLASSES).parent.mkdir()
    atomic.write_json(context.output / labelled_split.CLASSES, {"task": task, "classes": classes})
    splits: dict[str, Any] = {}
    dropped: dict[str, int] = {}
    for split in encoded["splits"]:
        if classes is None:
            found = labelled_split.choose_numbers(labels[split], split)
        else:
            found = labelled_split.choose_classes(labels[split], classes)
        packed = labelled_split.pack_documents(encoded, encode, split, config.block_size, task, found)
        (context.output / split).mkdir()
        atomic.write_json(context.output / split / "pack.json", packed)
        np.save(context.output / split / labelled_split.SEQUENCES, found.sequences)
        np.save(context.output / split / labelled_split.TARGETS, found.targets)
        splits[split] = {name: packed[name] for name in ("windows", "tokens", "target_tokens", "truncated", "dropped")}
        targets = labelled_split.describe_targets(found, classes)
        splits[split] |= targets
        if split == "train" and classes is None and not labelled_split.is_near_one(targets["mean"], targets["std"]):
            warnings.append(
                f"the labels have mean {targets['mean']:.3g} and standard deviation {targets['std']:.3g}, and "
                "are not rescaled; training takes long unless both are near 1: write them in other units"
            )
        for reason, count in found.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
            context.progress.say(f"{split}: {count:,} documents left out: {reason}")
        if packed["truncated"]:
            context.progress.say(
                f"{split}: {packed['truncated']:,} of {packed['windows']:,} documents are cut after "
                f"{config.block_size} tokens; raise pack.block_size to keep them whole"
            )
    told = {"warnings": warnings} if warnings else {}
    return {"block_size": config.block_size, "classes": classes, "splits": splits, "dropped": dropped, **told}


STAGE = Stage(name="pack", version=1, run=run, inputs=("encode",))
