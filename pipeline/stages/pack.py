"""pack: make rows of the token streams, as the task wants them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.engine.stage import Stage, StageContext
from pipeline.features import files_of_key
from pipeline.tasks import Task, task_packed_by
from pipeline.tokens.mixing import Epoch, MixtureConfig, mix_sources
from pipeline.tokens.packing import PackConfig


def run(context: StageContext[PackConfig]) -> dict[str, Any]:
    """Write `<split>/pack.json`, from which the task finds every row in the streams of encode, and what else it needs
    for that. Of a task of the user's own also `<split>/task.json` with digests of its code, on which all that is made
    of the split depends. A mixture stands in that of the training split."""
    config = context.config
    task = task_packed_by(config.strategy)
    summary = task.pack(context)
    if config.mixture is not None:
        summary["splits"]["train"] |= _mix(context, task, config.mixture)
    if code := {path.name: atomic.digest_file(path) for paths in _files(config).values() for path in paths}:
        for split in summary["splits"]:
            atomic.write_json(context.output / split / "task.json", code)
    return summary


def _mix(context: StageContext[PackConfig], task: Task, mixture: MixtureConfig) -> dict[str, Any]:
    """Write the mixture into the training split's pack.json; what the summary says of it."""
    encode, folder = context.inputs["encode"], context.output / "train"
    found = json.loads((encode / "encode.json").read_bytes())["splits"]["train"]["sources"]
    split = task.open_split(context.output, encode, "train")
    mixed = mix_sources(mixture, found, task.first_windows(folder, found), split)
    packed = json.loads((folder / "pack.json").read_bytes())
    atomic.write_json(folder / "pack.json", {**packed, "mixture": mixed})
    epoch = Epoch.of(split, mixed)
    shares = {one.name: {"share": one.draws / epoch.windows, "repeats": one.repeats} for one in epoch.sources}
    told = [f"{name} {of['share']:.1%} (read {of['repeats']:.3g} times)" for name, of in shares.items()]
    context.progress.say(f"an epoch of {epoch.windows:,} {task.words.window}s: {', '.join(told)}")
    return {"epoch": {"windows": epoch.windows, "target_tokens": epoch.target_tokens}, "mixture": shares}


def _files(config: PackConfig) -> dict[str, list[Path]]:
    return files_of_key([task_packed_by(config.strategy)])


STAGE = Stage(name="pack", version=1, config=PackConfig, run=run, inputs=("encode",), files=_files)
