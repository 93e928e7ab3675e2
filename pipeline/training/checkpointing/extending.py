"""Continue a longer training from a shorter one: find the last checkpoint that both share, bit for bit."""

from __future__ import annotations

import json
import math
import shutil
from contextlib import suppress
from pathlib import Path

from pipeline.atomic import link, remove, replacing_folder
from pipeline.training.checkpointing.checkpoints import checkpoint_of, list_checkpoints, step_of
from pipeline.training.optimization.schedules import num_common_steps, num_steps
from pipeline.training.train_config import PATIENCE, TrainConfig


def find_checkpoint(
    config: TrainConfig, earlier: TrainConfig, num_sequences: int, target_tokens: int, work: Path
) -> Path | str:
    """The newest checkpoint of `earlier`, in its folder `work`, that a training with `config` would also have written,
    or the reason why there is none. The split has so many sequences and target tokens. Both stop early, or neither.

    Weights depend on the length through the learning rate, so the rates up to the checkpoint must not. Where a spike of
    the loss undoes steps, they also depend on when losses are read: at records, and at the end.
    """
    is_less_patient = (config.early_stopping_patience or 0) < (earlier.early_stopping_patience or 0)
    rewarmed_at = config.rewarmed_at
    if is_less_patient and not rewarmed_at:
        return f"with a smaller train.{PATIENCE} it may have ended before"
    steps, earlier_steps = (num_steps(one, num_sequences, target_tokens) for one in (config, earlier))
    lasting = num_common_steps(config, steps, earlier, earlier_steps)
    for checkpoint in reversed(list_checkpoints(work)):
        # At its last step a training validates and records in any case: the new one must have more to do.
        step = step_of(checkpoint)
        is_common = step <= lasting and step < steps
        if is_less_patient:  # Up to the last re-warming no patience ends it.
            is_common = is_common and step <= rewarmed_at[-1]
        if step in rewarmed_at:  # Both validate and record there, where the earlier one ended.
            earlier_steps = 0
        elif config.on_loss_spike == "rollback":
            is_common = is_common and step % config.logging_steps == 0
        if is_common and (config.export != "best" or _knows_the_best(config, checkpoint, earlier_steps)):
            return checkpoint
    if rewarmed_at:
        return (
            f"its checkpoint of step {rewarmed_at[-1]} is not there any more, so its steps are taken again; "
            "train.init_from starts from its weights instead, with a new optimizer"
        )
    if lasting == math.inf:
        best = " with that of the lowest validation loss" if config.export == "best" else ""
        return f"it left no checkpoint from before step {steps}{best}"
    what = "train.warmup_ratio" if config.warmup_ratio else f"train.lr_scheduler_type {config.lr_scheduler_type}"
    if lasting == 0:
        return f"with {what} every learning rate depends on the length"
    return (
        f"with {what} the learning rate after step {lasting} depends on the length, and no earlier checkpoint is left"
    )


def _knows_the_best(config: TrainConfig, checkpoint: Path, earlier_steps: int) -> bool:
    """Whether a checkpoint holds the lowest loss among the validations of every `eval_steps`, and its weights are kept.

    The earlier training validated after its last step as well, where the new one may not.
    """
    step = step_of(checkpoint)
    if step == earlier_steps and (config.eval_steps is None or step % config.eval_steps):
        return False
    with suppress(OSError, ValueError, LookupError, TypeError):
        best = json.loads((checkpoint / "state.json").read_bytes())["counters"]["best_step"]
        return best is None or checkpoint_of(checkpoint.parent, best).is_dir()
    return False


def adopt(checkpoint: Path, work: Path) -> None:
    """Copy the progress of another training up to `checkpoint` into `work`: checkpoints as hard links, records as
    copies. Killed halfway, `work` holds an earlier checkpoint or none."""
    from pipeline.telemetry.anatomy import FOLDER
    from pipeline.telemetry.verdicts import HEALTH
    from pipeline.training.recording.metrics_file import METRICS
    from pipeline.training.recording.metrics_log import TENSORBOARD

    work.mkdir(parents=True, exist_ok=True)
    for name in (METRICS, HEALTH, TENSORBOARD, FOLDER):
        remove(work / name)
        source = checkpoint.parent / name
        if source.is_dir():
            shutil.copytree(source, work / name)
        elif source.is_file():
            shutil.copyfile(source, work / name)
    for path in list_checkpoints(checkpoint.parent):
        if step_of(path) <= step_of(checkpoint) and not (work / path.name).exists():
            with replacing_folder(work / path.name) as folder:
                shutil.copytree(path, folder, copy_function=link, dirs_exist_ok=True)
