"""train: optimize the model on the packed training split."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import atomic
from pipeline.engine.checkpointing_stage import Checkpointing, Continuation, StageStart
from pipeline.engine.stage import RunFolder, Stage, StageContext
from pipeline.errors import ConfigError, MissingInputError
from pipeline.exporting import OUTTYPES, gguf_name
from pipeline.modeling.loading_code import ADAPTER
from pipeline.pretrained.folder_checks import check_links, check_model_folder
from pipeline.pretrained.origin import MODEL_FILES, TOKENIZER_FILES
from pipeline.reporting.hparams import write_row
from pipeline.tasks import task_named, task_of_split
from pipeline.telemetry.anatomy import FOLDER
from pipeline.telemetry.verdicts import HEALTH, headline, verdicts_of
from pipeline.tokens.mixing import read_mixture
from pipeline.training.checkpointing import checkpoints, continuing
from pipeline.training.checkpointing.extending import adopt
from pipeline.training.launcher_flags import check_launcher
from pipeline.training.optimization.optimizers import family_of
from pipeline.training.recording.metrics_file import last_figures, progress_line, verdicts_so_far
from pipeline.training.train_config import TrainConfig

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pipeline.config import Config
    from pipeline.distributed.collectives import Collectives
    from pipeline.training.checkpointing.counters import Counters
    from pipeline.training.train_state import TrainState

LOADED = (
    *MODEL_FILES, *TOKENIZER_FILES, "tokenizer.*.json", "chat_template.*", "pytorch_model*.bin",
    "pytorch_model.bin.index.json", "adapter_model.bin", "adapter_config.json", "preprocessor_config.json",
    "processor_config.json",
)  # fmt: skip
"""Names that transformers and peft look for in a model's folder: one more of these may make another model of it."""


@dataclass(frozen=True)
class _Trained:
    """What is left of a training when its state, with the optimizer, is given up."""

    model: PreTrainedModel | None
    """None if it is exported from the last checkpoint part by part: it is sharded and has no adapter."""

    counters: Counters
    processes: Collectives
    device: torch.device
    block_size: int
    max_steps: int
    read_too_often: str
    totals: dict[str, Any]
    figures: dict[str, Any]


def run(context: StageContext[TrainConfig]) -> dict[str, Any]:
    """Write `model/` with the trained weights (of an adapter also `adapter/` alone), `training.json`, and the records
    `metrics.jsonl`, `health.jsonl`, `anatomy/` and `tensorboard/`.

    While it runs, checkpoints and records are in `context.work`; a killed run goes on from there exactly. Process 0
    alone writes.
    """
    from pipeline.training.early_stopping import early_end, early_end_in_words, exported_in_words
    from pipeline.training.recording.metrics_log import copy_records

    config, work = context.config, context.work
    assert work is not None
    trained = _train(context, work)
    exported = _export(context, trained, work)
    if exported is None:
        return {}
    exported_step, checked = exported
    copy_records(work, context.output)
    counters = trained.counters
    result = {**trained.totals, "export": config.export, "exported_step": exported_step}
    ended = early_end(config, counters, trained.max_steps)
    if config.early_stopping_patience is not None:
        result["stopped_early"] = ended
    atomic.write_json(context.output / "training.json", result)
    if ended is not None:
        why = early_end_in_words(config, counters, trained.max_steps)
        result["stopped_early"] = {**ended, "why": why}
        context.progress.say(why)
        context.progress.say(exported_in_words(config, counters, exported_step))
    warnings = [checked[name] for name in ("unmerged", "unchecked") if name in checked]
    if trained.read_too_often:
        warnings.append(trained.read_too_often)
    return {**result, **trained.figures, "export_check": checked, "warnings": warnings}


def _train(context: StageContext[TrainConfig], work: Path) -> _Trained:
    from pipeline.modeling.adapters import read_description
    from pipeline.modeling.sharding import is_sharded
    from pipeline.training.loop import train
    from pipeline.training.recording.training_summary import summarize, totals_of

    state = _build_state(context, work)
    counters = train(state)
    is_exported_in_parts = is_sharded(state.unwrapped_model) and read_description(context.inputs["model"]) is None
    return _Trained(
        model=None if is_exported_in_parts else state.unwrapped_model,
        counters=counters,
        processes=state.processes,
        device=state.device,
        block_size=state.train_split.block_size,
        max_steps=state.max_steps,
        # One step less: the last may go beyond the epoch by a part of a batch.
        read_too_often=state.epoch.read_too_often((counters.step - 1) * state.config.global_batch_size),
        totals=totals_of(state),
        figures=summarize(state) if state.processes.is_main else {},
    )


def _build_state(context: StageContext[TrainConfig], work: Path) -> TrainState:
    from pipeline.distributed.parallel_dims import ParallelDims
    from pipeline.modeling.adapters import virtual_tokens
    from pipeline.modeling.inputs import check_context, context_length
    from pipeline.modeling.open_and_export import give_weights, open_for_training
    from pipeline.training.accelerator import idle_cores
    from pipeline.training.build_state import build
    from pipeline.training.checkpointing.init_from import start_from
    from pipeline.training.recording.trackers import RunLabel

    config = context.config
    pack, encode, initial = context.inputs["pack"], context.inputs["encode"], context.inputs["model"]
    if note := idle_cores():
        context.progress.say(note)
    task = task_of_split(pack, "train")
    train_split, validation_split = (task.open_split(pack, encode, split) for split in ("train", "validation"))
    is_sharded = ParallelDims.from_environment(os.environ).is_sharded
    is_mixed = config.mixed_precision != "no"
    model = open_for_training(initial, context.seed, is_mixed=is_mixed, will_be_sharded=is_sharded)
    check_context(train_split.block_size + virtual_tokens(model), context_length(model))

    def complete(model: PreTrainedModel, device: torch.device) -> None:
        give_weights(model, initial, device)
        if config.init_from is not None:
            start_from(Path(config.init_from), model, initial / "model", context.progress.say)

    return build(
        config,
        model,
        task,
        train_split,
        validation_split,
        read_mixture(pack),
        give_weights=complete,
        seed=context.seed,
        chosen=context.chosen,
        work=work,
        progress=context.progress,
        fail=context.fail,
        label=RunLabel(context.run_name, context.run_settings),
        artifact=initial,
    )


def _export(context: StageContext[TrainConfig], trained: _Trained, work: Path) -> tuple[int, dict[str, Any]] | None:
    """Write `model/` and `adapter/`. Returns the step of their weights and what `check_export` found, None in all
    processes but the first. The processes part here."""
    from pipeline.distributed.collectives import destroy_process_group
    from pipeline.modeling.adapter_card import complete_adapter
    from pipeline.modeling.adapters import read_description, virtual_tokens
    from pipeline.modeling.export_compatibility import longest_input, set_longest_input
    from pipeline.modeling.open_and_export import export_model, open_for_training
    from pipeline.training.export import export_sharded, exported_model

    config, output, initial = context.config, context.output, context.inputs["model"]
    model, counters, processes = trained.model, trained.counters, trained.processes
    gc.collect()  # the state, which refers to itself
    if model is None:
        with processes.connection_errors():
            exported = export_sharded(config, counters, work, initial, output, processes, trained.device.type)
    destroy_process_group()
    if context.process_index != 0:
        return None
    longest = longest_input(initial / "model")
    if longest is None:
        longest = trained.block_size
    elif model is not None:
        longest -= virtual_tokens(model)
    if model is not None:
        is_mixed = config.mixed_precision != "no"
        reopen = partial(open_for_training, initial, context.seed, is_mixed=is_mixed)
        model, exported_step = exported_model(config, model, counters, work, reopen)
        exported = exported_step, export_model(model, initial, output, is_mixed=is_mixed)
    set_longest_input(output / "model", longest)
    description = read_description(initial)
    if model is not None and description is not None:
        complete_adapter(output / ADAPTER, output / "model", model.config, description["new_rows"])
    return exported


def _find_continuation(start: StageStart) -> tuple[Continuation | None, tuple[str, ...]]:
    assert isinstance(start.config, TrainConfig)
    split = start.summaries["pack"]["splits"]["train"]
    epoch = split.get("epoch", split)
    own = start.payload["section"]
    found, remarks = continuing.find_continuation(start.config, own, start.work, epoch, start.others())
    return Continuation(*found) if found is not None else None, remarks


def _choose_rewarmed(start: StageStart) -> dict[str, Any]:
    assert isinstance(start.config, TrainConfig)
    split = start.summaries["pack"]["splits"]["train"]
    epoch = split.get("epoch", split)
    own = start.payload["section"]
    return {"rewarm_from": continuing.find_rewarmed(start.config, own, epoch, start.others())}


def _in_short(summary: Mapping[str, Any]) -> str:
    if summary.get("final_loss") is None:
        return ""
    return f"loss {summary['final_loss']:.3f}, {headline(verdicts_of(summary.get('health')))}"


def _in_progress(work: Path) -> dict[str, Any]:
    return {**last_figures(work), "health": [verdict.as_json() for verdict in verdicts_so_far(work)]}


def _files(config: TrainConfig) -> dict[str, list[Path]]:
    """The weights to start from, and an optimizer of the user's own."""
    files = dict(family_of(config.optim).files_of_key(config.optim))
    if config.init_from is not None:
        files["weights to start from"] = _weights(config)
    return files


def _weights(config: TrainConfig) -> list[Path]:
    assert config.init_from is not None
    folder = Path(config.init_from)
    weights = sorted(folder.glob("*.safetensors"))
    if (folder / ADAPTER).is_dir():
        raise ConfigError(
            f"train.init_from: the model in {config.init_from} is an adapter that is not merged into its base, and "
            "nothing can be started from both; name the folder of a model whose weights are its own"
        )
    if not weights:
        raise MissingInputError(
            f"train.init_from: {config.init_from} holds no weights (*.safetensors); carry out that run first, or name "
            "the folder of a model"
        )
    files = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
    check_links(files.values(), folder, f"train.init_from: {folder}")
    check_model_folder(files, f"train.init_from: {folder}")
    return weights


def _check(config: Config) -> None:
    family_of(config.train.optim).check(config.train.optim)
    for benchmark in config.train.benchmarks if config.train.benchmark_steps is not None else ():
        benchmark.files_of_key()
        benchmark.check()
    if config.train.samples is not None and not task_named(config.model.task).words.is_generative:
        raise ConfigError(f"train.samples: a model of the task {config.model.task} writes no text; remove it")


STAGE = Stage(
    name="train",
    version=8,
    config=TrainConfig,
    run=run,
    inputs=("pack/train", "pack/validation", "model"),
    reads=("encode",),
    uses_seed=lambda config: True,  # the order of the data at least
    records=("metrics.jsonl", HEALTH, f"{FOLDER}/**", "tensorboard/**"),
    files=_files,
    check_launch=check_launcher,
    check=_check,
    distributed=True,
    checkpointing=Checkpointing(
        list_checkpoints=checkpoints.list_checkpoints,
        describe=lambda checkpoint: f"step {checkpoints.step_of(checkpoint)}",
        problem_of=checkpoints.problem_of,
        set_aside=checkpoints.set_aside,
        find_continuation=_find_continuation,
        adopt=adopt,
        missing_settings=continuing.asks_for_rewarming,
        choose_settings=_choose_rewarmed,
    ),
    summary_line=_in_short,
    headline=lambda summary: f"{summary['steps']:,} steps",
    noun="training",
    summary_in_progress=_in_progress,
    progress_line=progress_line,
    summary_keys_in_run_json=("stopped_early", "health"),
    run_folder=RunFolder(
        links=("metrics.jsonl", HEALTH, "tensorboard"),
        copies={"model": "model", ADAPTER: ADAPTER},
        forbidden_names=LOADED,
        exports=tuple(map(gguf_name, OUTTYPES)),
        extra_folders={"hparams": write_row},
    ),
)
