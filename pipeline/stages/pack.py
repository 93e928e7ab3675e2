"""pack: lay windows over the token streams."""

from __future__ import annotations

import json
from typing import Any

from pipeline import atomic
from pipeline.config.tokens import PackConfig
from pipeline.stages.contract import Stage, StageContext


def run(context: StageContext) -> dict[str, Any]:
    """Write `pack.json`, from which pipeline.tokens.reader finds every window in the streams of encode."""
    from pipeline.tokens.packing import pack_contiguous

    section = context.section
    assert isinstance(section, PackConfig)
    encoded = json.loads((context.inputs["encode"] / "encode.json").read_bytes())
    with context.progress.task("packing", total=len(encoded["splits"]), unit="splits") as task:
        packed = pack_contiguous(encoded, section.block_size)
        task.update(len(packed["splits"]))
    atomic.write_json(context.output / "pack.json", packed)
    return {
        "block_size": section.block_size,
        "splits": {
            name: {key: split[key] for key in ("windows", "tokens", "target_tokens")}
            for name, split in packed["splits"].items()
        },
    }


STAGE = Stage(name="pack", version=1, run=run, inputs=("encode",))
