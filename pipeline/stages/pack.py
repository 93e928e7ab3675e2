"""pack: lay windows over the token streams."""

from __future__ import annotations

import json
from typing import Any

from pipeline import atomic
from pipeline.config.tokens import PackConfig
from pipeline.stages.contract import Stage, StageContext


def run(context: StageContext) -> dict[str, Any]:
    """Write `<split>/pack.json`, from which pipeline.tokens.reader finds every window in the streams of encode."""
    from pipeline.tokens.packing import pack_contiguous

    section = context.section
    assert isinstance(section, PackConfig)
    encoded = json.loads((context.inputs["encode"] / "encode.json").read_bytes())
    with context.progress.task("packing", total=len(encoded["splits"]), unit="splits") as task:
        splits = {}
        for split in encoded["splits"]:
            packed = pack_contiguous(encoded, split, section.block_size)
            (context.output / split).mkdir()
            atomic.write_json(context.output / split / "pack.json", packed)
            splits[split] = {name: packed[name] for name in ("windows", "tokens", "target_tokens")}
            task.update()
    return {"block_size": section.block_size, "splits": splits}


STAGE = Stage(name="pack", version=1, run=run, inputs=("encode",))
