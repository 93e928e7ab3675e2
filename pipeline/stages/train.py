"""train: optimize the model on the packed training split."""

from __future__ import annotations

import gc
import os
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import atomic
from pipeline.engine.checkpointing_stage import Checkpointing, Continuation, Outset
from pipeline.engine.stage import Shown, Stage, StageContext
from pipeline.errors import ConfigError, MissingInputError
from pipeline.exporting import OUTTYPES, gguf_name
from pipeline.modeling.loading_code import ADAPTER
from pipeline.pretrained.folder_checks import check_links, check_model
from pipeline.reporting.hparams import write_row
from pipeline.tasks import task_of_split
from pipeline.training.checkpointing import checkpoints, continuing
from pipeline.training.checkpointing.extending import adopt
from pipeline.training.launcher_flags import check_launcher
from pipeline.training.optimization.optimizers import family_of
from pipeline.training.train_config import TrainConfig

if TYPE_CHECKING:
    from pipeline.config import Config

LOADED = (
    "*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model.bin.index.json",
    "adapter_model.bin", "config.json", "generation_config.json", "adapter_config.json", "preprocessor_config.json",
    "processor_config.json", "tokenizer.json", "tokenizer.*.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template.*", "vocab.json", "vocab.txt", "merges.txt", "*.model",
)  # fmt: skip
"""Names that transformers and peft look for in a model's folder: one more of these may make another model of it."""


def run(context: StageContext[TrainConfig]) -> dict[str, Any]:
    """Write `model/` with the trained weights (of an adapter also `adapter/` alone), `training.json`, and the records
    `metrics.jsonl` and `tensorboard/`.

    While it runs, checkpoints and records are in `context.work`; a killed run goes on from there exactly. Process 0
    alone writes.
    """
    from pipeline.distributed.collectives import destroy_process_group
    from pipeline.distributed.parallel_dims import ParallelDims
    from pipeline.modeling.adapter_card import complete_adapter
    from pipeline.modeling.adapters import read_description, virtual_tokens
    from pipeline.modeling.export_compatibility import longest_input, set_longest_input
    from pipeline.modeling.inputs import context_length
    from pipeline.modeling.loading_code import ADAPTER
    from pipeline.modeling.open_and_export import export_model, give_weights, open_for_training
    from pipeline.telemetry.training_verdict import judge
    from pipeline.training.build_state import build, check_context, idle_cores, num_steps
    from pipeline.training.checkpointing.init_from import start_from
    from pipeline.training.early_stopping import early_end, early_end_in_words
    from pipeline.training.export import export_sharded, exported_model
    from pipeline.training.loop import train
    from pipeline.training.numerics import numerics_of
    from pipeline.training.precision import in_words
    from pipeline.training.recording.metrics_log import copy_records, read_metrics
    from pipeline.training.recording.peak_flops import peak_of
    from pipeline.training.recording.trackers import RunLabel

    config, work = context.config, context.work
    assert work is not None
    pack, encode, initial = context.inputs["pack"], context.inputs["encode"], context.inputs["model"]
    task = task_of_split(pack, "train")
    train_split, validation_split = (task.open_split(pack, encode, split) for split in ("train", "validation"))
    if note := idle_cores():
        context.progress.say(note)
    dims = ParallelDims.from_environment(os.environ)
    is_mixed = config.mixed_precision != "no"
    model = open_for_training(initial, context.seed, is_mixed=is_mixed, will_be_sharded=dims.is_sharded)
    check_context(train_split.block_size + virtual_tokens(model), context_length(model))

    def complete(model: Any, device: Any) -> None:
        give_weights(model, initial, device)
        if config.init_from is not None:
            start_from(Path(config.init_from), model, initial / "model", context.progress.say)

    state = build(
        config,
        model,
        task,
        train_split,
        validation_split,
        give_weights=complete,
        seed=context.seed,
        chosen=context.chosen,
        work=work,
        progress=context.progress,
        fail=context.fail,
        label=RunLabel(context.run_name, context.run_settings),
    )
    counters = train(state)
    num_parameters, device, prompt_tokens = model.num_parameters(), model.device, virtual_tokens(model)
    processes, mesh_device = state.processes, state.device.type
    description = read_description(initial)
    del state
    if dims.is_sharded and description is None:
        del model
        gc.collect()  # the state refers to itself; its memory is needed for the export
        with processes.connection_errors():
            exported_step, checked = export_sharded(
                config, counters, work, initial, context.output, processes, mesh_device
            )
    destroy_process_group()
    if context.process_index != 0:
        return {}

    if not dims.is_sharded or description is not None:
        reopen = partial(open_for_training, initial, context.seed, is_mixed=is_mixed)
        model, exported_step = exported_model(config, model, counters, work, reopen)
        checked = export_model(model, initial, context.output, is_mixed=is_mixed)
    longest = longest_input(initial / "model")
    longest = train_split.block_size if longest is None else longest - prompt_tokens
    set_longest_input(context.output / "model", longest)
    if description is not None:
        complete_adapter(context.output / ADAPTER, context.output / "model", model.config, description["new_rows"])
    copy_records(work, context.output)
    history = read_metrics(work)
    result: dict[str, Any] = {
        "steps": counters.step,
        "target_tokens": counters.target_tokens,
        "sequences": counters.step * config.global_batch_size,
        "epochs": round(counters.step * config.global_batch_size / len(train_split), 6),
        "export": config.export,
        "exported_step": exported_step,
    }
    ended, planned = None, num_steps(config, train_split)
    if config.early_stopping_patience is not None:
        ended = early_end(config, counters, planned)
        result["stopped_early"] = ended
    atomic.write_json(context.output / "training.json", result)
    if ended is not None:
        ended = {**ended, "why": early_end_in_words(config, counters, planned)}
        result["stopped_early"] = ended
        context.progress.say(ended["why"])
        context.progress.say(_exported_of_an_early_end(config, counters, exported_step))
    return {
        **result,
        "final_loss": _last(history, "train/loss"),
        "eval_loss": _last(history, "eval/loss"),
        "seconds": round(counters.seconds, 3),
        "tokens_per_second": _speed(train_split, counters.target_tokens, counters.seconds),
        "parameters": num_parameters,
        "mfu": _median(history, "throughput/mfu"),
        "peak": asdict(peak_of(device, config.mixed_precision)),
        "precision": in_words(config.mixed_precision, device),
        "peak_memory_bytes": _last(history, "memory/peak_bytes"),
        "skipped_steps": counters.skipped_steps,
        "loss_spikes": counters.loss_spikes,
        "rollbacks": counters.rollbacks,
        "resumed_from_steps": counters.resumed_from_steps,
        "gradients": judge(history),
        "library_versions": numerics_of(config, device, dims),
        "export_check": checked,
        "warnings": [checked[name] for name in ("unmerged", "unchecked") if name in checked],
    }


def _exported_of_an_early_end(config: TrainConfig, counters: Any, exported_step: int) -> str:
    """Which weights become the artifact of a training that ended early, for people."""
    if config.export == "best":
        return f"the weights of step {exported_step:,}, which had the lowest validation loss, become the artifact"
    what = "the averaged weights" if config.export == "ema" else "the weights"
    return (
        f"{what} of step {exported_step:,} become the artifact, as train.export: {config.export} says; with "
        f"export: best it would be those of step {counters.lowest_loss_step:,}, of the lowest validation loss"
    )


def _find_continuation(outset: Outset) -> tuple[Continuation | None, tuple[str, ...]]:
    assert isinstance(outset.config, TrainConfig)
    split = outset.summaries["pack"]["splits"]["train"]
    own = outset.payload["section"]
    found, remarks = continuing.find_continuation(outset.config, own, outset.work, split, outset.others())
    return Continuation(*found) if found is not None else None, remarks


def _choose_rewarmed(outset: Outset) -> dict[str, Any]:
    assert isinstance(outset.config, TrainConfig)
    split = outset.summaries["pack"]["splits"]["train"]
    own = outset.payload["section"]
    return {"rewarm_from": continuing.find_rewarmed(outset.config, own, split, outset.others())}


def _in_short(summary: Mapping[str, Any]) -> str:
    if summary.get("final_loss") is None:
        return ""
    return f"loss {summary['final_loss']:.3f}, gradients {summary['gradients']['verdict']}"


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
    check_model(files, f"train.init_from: {folder}")
    return weights


def _check(config: Config) -> None:
    family_of(config.train.optim).check(config.train.optim)


def _speed(split: Any, target_tokens: int, seconds: float) -> float:
    """Tokens without padding a second: each is a target but where a whole sequence has one label."""
    tokens_per_target = split.num_tokens_in(range(len(split))) / split.target_tokens
    return float(round(tokens_per_target * target_tokens / seconds, 1))


def _last(history: list[dict[str, Any]], tag: str) -> float | None:
    return next((line[tag] for line in reversed(history) if tag in line), None)


def _median(history: list[dict[str, Any]], tag: str) -> float | None:
    found = [line[tag] for line in history if tag in line]
    return round(statistics.median(found), 4) if found else None


STAGE = Stage(
    name="train",
    version=7,
    config=TrainConfig,
    run=run,
    inputs=("pack/train", "pack/validation", "model"),
    reads=("encode",),
    draws=lambda config: True,  # the order of the data at least
    records=("metrics.jsonl", "tensorboard/**"),
    files=_files,
    check_launch=check_launcher,
    check=_check,
    distributed=True,
    checkpointing=Checkpointing(
        saved=checkpoints.list_checkpoints,
        point=lambda checkpoint: f"step {checkpoints.step_of(checkpoint)}",
        problem_of=checkpoints.problem_of,
        set_aside=checkpoints.set_aside,
        find=_find_continuation,
        adopt=adopt,
        asks=continuing.asks_for_rewarming,
        choose=_choose_rewarmed,
    ),
    summary_line=_in_short,
    headline=lambda summary: f"{summary['steps']:,} steps",
    noun="training",
    noted=("stopped_early",),
    shown=Shown(
        links=("metrics.jsonl", "tensorboard"),
        copies={"model": "model", ADAPTER: ADAPTER},
        forbidden_names=LOADED,
        exports=tuple(map(gguf_name, OUTTYPES)),
        displays={"hparams": write_row},
    ),
)
