"""What the verdicts on a training have to know beside its records."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedConfig

from pipeline.modeling.expert_loads import balanced_mixture
from pipeline.modeling.parameters import mixture_of
from pipeline.tasks import Split, Task
from pipeline.telemetry.data_facts import measure_data
from pipeline.telemetry.facts import DataFacts, HealthFacts
from pipeline.telemetry.label_facts import measure_labels
from pipeline.telemetry.model_probe import probe_rows
from pipeline.tokens.labelled_split import LabelledSplit
from pipeline.tokens.mixing import Epoch
from pipeline.tokens.packed_split import PackedSplit
from pipeline.training.optimization.schedules import num_steps, num_warmup_steps
from pipeline.training.recording.trackers import RunLabel
from pipeline.training.routing import BALANCE, router_coefficients
from pipeline.training.train_config import TrainConfig

SMALL_WEIGHTS = 2e-3
"""Standard deviation; 0.006 to 0.02 is usual."""

MUCH_NOISE, LARGE_EPSILON, LARGE_BALANCE = 0.6, 1e-3, 1.0
"""Dropout and label smoothing of 0.1 to 0.5 are usual, Adam's epsilons of 1e-10 to 1e-5, balance losses of 1e-3 to 0.1
times the loss."""


def health_facts(
    config: TrainConfig,
    model_config: PreTrainedConfig,
    task: Task,
    train: Split,
    validation: Split,
    epoch: Epoch,
    label: RunLabel,
    tokenizer_file: Path | None,
) -> HealthFacts:
    """The facts of a training, from its settings and a look at its splits. The settings of the `label` tell whether the
    model is pretrained, and how its weights were drawn."""
    max_steps = num_steps(config, epoch.windows, epoch.target_tokens)
    num_windows = max_steps * config.global_batch_size
    reads = epoch.reads(num_windows)
    num_experts, top_k = mixture_of(model_config) or (None, None)
    settings = label.settings.get("model") or {}
    coefficients = _router_coefficients(config, model_config)
    is_pretrained, std = settings.get("pretrained") is not None, (settings.get("initialization") or {}).get("std")
    std = getattr(model_config.get_text_config(), "initializer_range", None) if std is None else std
    return HealthFacts(
        predicts=task.predicts,
        max_steps=max_steps,
        warmup_steps=num_warmup_steps(config, max_steps),
        peak_rate=config.learning_rate,
        epochs=min(reads.values(), default=num_windows / epoch.windows),
        reads=reads,
        is_pretrained=is_pretrained or config.init_from is not None,
        stops_early=config.early_stopping_patience is not None,
        max_grad_norm=config.max_grad_norm,
        guess_loss=task.ignorant_loss(model_config, validation, config),
        frequency_loss=task.frequency_loss(train, validation, config),
        batch_targets=config.global_batch_size * train.target_tokens / len(train),
        probe_tokens=validation.num_tokens_in(probe_rows(validation, config.global_batch_size)),
        num_experts=num_experts,
        top_k=top_k,
        is_balanced=coefficients.get(BALANCE, 0.0) > 0,
        router_coefficients=coefficients,
        starts_small=std is not None and std < SMALL_WEIGHTS,
        unusual=unusual_settings(config, model_config),
        attention_cap=getattr(model_config.get_text_config(), "attn_logit_softcapping", None),
        data=_data_facts(train, tokenizer_file),
    )


def unusual_settings(config: TrainConfig, model_config: PreTrainedConfig) -> dict[str, float]:
    """Settings far outside of what is usual, by key. A setting may be so for a reason: only a symptom makes it a
    fault."""
    settings = model_config.get_text_config().to_dict()
    found = {f"model.config.{name}": value for name, value in settings.items() if "drop" in name}
    found["train.label_smoothing_factor"] = config.label_smoothing_factor
    unusual = {key: value for key, value in found.items() if isinstance(value, float) and value >= MUCH_NOISE}
    if any(name in config.optim for name in ("adam", "muon")) and config.adam_epsilon > LARGE_EPSILON:
        unusual["train.adam_epsilon"] = config.adam_epsilon
    balance = _router_coefficients(config, model_config).get(BALANCE, 0.0)
    if balance > LARGE_BALANCE:
        section = "model.config" if config.router_aux_loss_coef is None else "train"
        unusual[f"{section}.router_aux_loss_coef"] = balance
    return unusual


def _router_coefficients(config: TrainConfig, model_config: PreTrainedConfig) -> dict[str, float]:
    return {} if balanced_mixture(model_config) is None else router_coefficients(config, model_config)


def _data_facts(train: Split, tokenizer_file: Path | None) -> DataFacts:
    if isinstance(train, PackedSplit):
        return measure_data(train, tokenizer_file)
    return measure_labels(train) if isinstance(train, LabelledSplit) else DataFacts()
