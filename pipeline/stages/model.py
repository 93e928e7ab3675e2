"""model: build the network and initialize its weights, or take a pretrained one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import atomic
from pipeline.engine.stage import Stage, StageContext
from pipeline.features import files_of_key
from pipeline.modeling.model_config import ModelConfig
from pipeline.pretrained.origin import check_vocabulary, model_files
from pipeline.tasks import Task, task_named
from pipeline.tasks.task_model_config import TaskModelConfig

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.telemetry.verdicts import Verdict


def run(context: StageContext[TaskModelConfig]) -> dict[str, Any]:
    """Write `model/`, an ordinary Hugging Face folder, and `parameters.json`, the parameters by part; and with
    `model.adapter` also `adapter.json`, from which training makes the adapter. A head over labels has the classes that
    pack found."""
    from pipeline.modeling.adapters import add_adapter, can_merge, save_description
    from pipeline.modeling.build import build_model, check_saved_tokenizer, load_hf_tokenizer, save_model
    from pipeline.modeling.export_compatibility import set_longest_input
    from pipeline.modeling.generation import left_out_in_words, settle_generation
    from pipeline.modeling.materialize import save_recipe
    from pipeline.modeling.parameters import parameter_table
    from pipeline.modeling.pretrained_model import new_rows
    from pipeline.modeling.quantization import check_quantization
    from pipeline.tokens.template import end_texts

    config = context.config
    tokenizer = load_hf_tokenizer(context.inputs["tokenizer"])
    task = task_named(config.task)
    head = task.head(context.inputs.get("pack"))
    with context.progress.bar(f"building {config.model_type or config.pretrained}", total=1, unit="model") as bar:
        model = build_model(config, tokenizer, context.seed, head)
        left_out = left_out_in_words(settle_generation(model))
        save_model(model, context.inputs["tokenizer"], context.output / "model")
        set_longest_input(context.output / "model", _longest_of_base(config, head, model, tokenizer))
        if model.device.type == "meta":
            save_recipe(context.output / "model", config.initialization, context.seed)
        check_saved_tokenizer(context.output / "model", tokenizer)
        if not head.is_pretrained:  # one over labels, which reads the last token
            end_texts(context.output / "model")
        bar.update()
        start, health = _start(config, task, model, context.seed)
    for verdict in health:
        if not verdict.is_healthy:
            context.progress.say(f"warning: {verdict.in_words}; {verdict.remedy}")
    if config.adapter is not None:
        if config.quantization is not None:
            check_quantization(config.quantization)
        model = add_adapter(model, config.adapter, context.seed)
    table = parameter_table(model)
    atomic.write_json(context.output / "parameters.json", table)
    if config.adapter is not None:
        rows = new_rows(config, model)
        if rows:
            size = model.get_input_embeddings().weight.shape[0]
            context.progress.say(
                f"the embeddings have {rows} more row{'' if rows == 1 else 's'} than those of {config.pretrained}, for "
                f"new tokens: adapter/ alone fits it after base.resize_token_embeddings({size})"
            )
        save_description(context.output, config, merges=can_merge(model), rows=rows)
    return {
        "architecture": model.config.model_type,
        "vocab_size": model.config.get_text_config().vocab_size,
        **table,
        "start": start,
        "health": [verdict.as_json() for verdict in health],
        "warnings": [left_out] if left_out else [],
    }


def _longest_of_base(config: ModelConfig, head: Any, model: Any, tokenizer: Any) -> int | None:
    """Most tokens of an input of a pretrained language model; None: as many as it will be trained on."""
    from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

    from pipeline.modeling.inputs import context_length

    if config.pretrained is None or not head.is_pretrained:
        return None
    longest = min(tokenizer.model_max_length, context_length(model) or VERY_LARGE_INTEGER)
    return int(longest) if longest < VERY_LARGE_INTEGER else None


def _start(config: ModelConfig, task: Task, model: Any, seed: int) -> tuple[dict[str, Any], list[Verdict]]:
    """How activations and gradients scale through the layers before training, where the model is small enough; and the
    verdicts on it."""
    from pipeline.modeling.initial_scales import LARGEST_PARAMETERS, measure_scales
    from pipeline.telemetry.initial_verdicts import finite_scales, judge_start, unmeasured

    if model.device.type == "meta" or model.num_parameters() > LARGEST_PARAMETERS:
        return {}, unmeasured("the model is too large to be measured while it is built")
    measured = measure_scales(model, seed, task.start_loss)
    return finite_scales(measured), judge_start(measured, is_pretrained=config.pretrained is not None)


def _check(config: Config) -> None:
    if config.model.pretrained is None:
        from pipeline.modeling.build import configure
        from pipeline.modeling.inputs import check_context

        text_config = configure(config.model, task_named(config.model.task).head()).get_text_config()
        check_context(config.pack.block_size, getattr(text_config, "max_position_embeddings", None) or None)
    check_vocabulary(model_files(config.model, "model"), config.model, "model")


def _uses_seed(config: Config) -> bool:
    """A pretrained language model is taken as it is; an adapter is drawn by training."""
    return config.model.pretrained is None or not task_named(config.model.task).is_pretrained_whole


def _files(config: ModelConfig) -> dict[str, list[Path]]:
    return {**model_files(config, "model"), **files_of_key([task_named(config.task)])}


STAGE = Stage(
    name="model",
    version=8,
    config=TaskModelConfig,
    run=run,
    inputs=("tokenizer", "pack/labels"),
    uses_seed=_uses_seed,
    libraries=("transformers", "torch", "peft"),
    summary_keys_in_run_json=("health",),
    files=_files,
    check=_check,
)
