"""`descent` with a model and a training that need no torch, as a script: `fake.py BEHAVIOUR run tiny.yaml ...`.

What the training does: `work` says who took part, and in which precision; `unlike` is the same on a machine whose
second process leaves bf16 out; `fail-1` raises in process 1, `die-1` kills it, and process 0 waits
meanwhile, as in a collective that nothing ends; `fail-0` and `die-0` are the other way round. With `slow` the
augmentation does not end. Nobody gives up waiting for a word: what ends a process is what it sees of another.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from typing import Any

from pipeline import stages
from pipeline.atomic import write_json
from pipeline.cli import main
from pipeline.engine.launches import follower
from pipeline.engine.stage import StageContext
from pipeline.errors import BadDataError
from pipeline.training.train_config import TrainConfig

behaviour = "work"


def model(context: StageContext) -> dict[str, Any]:
    (context.output / "model").mkdir()
    (context.output / "model" / "config.json").write_text("{}")
    return {}


def sleep(context: StageContext) -> dict[str, Any]:
    time.sleep(3600)
    return {}


def train(context: StageContext) -> dict[str, Any]:
    assert context.work is not None
    context.progress.say(f"here is process {context.process_index}")
    assert isinstance(context.config, TrainConfig)
    precision = [context.config.mixed_precision, context.chosen]
    # Whole: the others read it as soon as it is there.
    write_json(context.work / f"{context.process_index}", precision)
    while not all((context.work / str(index)).exists() for index in range(context.num_processes)):
        time.sleep(0.01)
    what, _, who = behaviour.partition("-")
    if who == str(context.process_index):
        if what == "fail":
            raise BadDataError("it does not fit")
        if what == "die":
            for name in ("step-00000007", "step-00000003", "step-²"):
                (context.work / name).mkdir()
            os.kill(os.getpid(), signal.SIGKILL)
    if who:
        time.sleep(3600)
    (context.output / "model").mkdir()
    (context.output / "model" / "weights").write_text(f"of process {context.process_index}")
    precisions = [json.loads((context.work / str(index)).read_text()) for index in range(context.num_processes)]
    return {"processes": context.num_processes, "precisions": precisions}


if __name__ == "__main__":
    follower.START_SECONDS = follower.SILENCE_SECONDS = 3600.0
    behaviour = sys.argv.pop(1)
    if behaviour == "unlike" and os.environ["RANK"] != "0":
        os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
    fakes = {"model": model, "train": train}
    if behaviour == "slow":
        fakes["augment"] = sleep
    stages.STAGES = tuple(
        replace(stage, run=fakes[stage.name], distributed=stage.name == "train") if stage.name in fakes else stage
        for stage in stages.STAGES
    )
    main(sys.argv[1:])
