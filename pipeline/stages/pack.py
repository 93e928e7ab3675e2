"""pack: make rows of the token streams, as the task wants them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.engine.stage import Stage, StageContext
from pipeline.features import files_of_key
from pipeline.tasks import task_packed_by
from pipeline.tokens.packing import PackConfig


def run(context: StageContext[PackConfig]) -> dict[str, Any]:
    """Write `<split>/pack.json`, from which the task finds every row in the streams of encode, and what else it needs
    for that. Of a task of the user's own also `<split>/task.json` with digests of its code, on which all that is made
    of the split depends."""
    config = context.config
    summary = task_packed_by(config.strategy).pack(context)
    if code := {path.name: atomic.digest_file(path) for paths in _files(config).values() for path in paths}:
        for split in summary["splits"]:
            atomic.write_json(context.output / split / "task.json", code)
    return summary


def _files(config: PackConfig) -> dict[str, list[Path]]:
    return files_of_key([task_packed_by(config.strategy)])


STAGE = Stage(name="pack", version=1, config=PackConfig, run=run, inputs=("encode",), files=_files)
