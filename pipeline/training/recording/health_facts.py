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
from pipeline.tokens.packed_split import PackedSplit
from pipeline.training.optimization.schedules import num_steps, num_warmup_steps
from pipeline.training.recording.trackers import RunLabel
from pipeline.training.routing import balance_coefficient
from pipeline.training.train_config import TrainConfig


def health_facts(
    config: TrainConfig,
    model_config: PreTrainedConfig,
    task: Task,
    train: Split,
    validation: Split,
    label: RunLabel,
    tokenizer_file: Path | None,
) -> HealthFacts:
    """The facts of a training, from its settings and a look at its splits. The settings of the `label` tell whether the
    model is pretrained."""
    max_steps = num_steps(config, len(train), train.target_tokens)
    num_experts, top_k = mixture_of(model_config) or (None, None)
    is_pretrained = (label.settings.get("model") or {}).get("pretrained") is not None
    return HealthFacts(
        predicts=task.predicts,
        max_steps=max_steps,
        warmup_steps=num_warmup_steps(config, max_steps),
        peak_rate=config.learning_rate,
        epochs=max_steps * config.global_batch_size / len(train),
        is_pretrained=is_pretrained or config.init_from is not None,
        stops_early=config.early_stopping_patience is not None,
        max_grad_norm=config.max_grad_norm,
        guess_loss=task.ignorant_loss(model_config, validation, config),
        frequency_loss=task.frequency_loss(train, validation, config),
        batch_targets=config.global_batch_size * train.target_tokens / len(train),
        probe_tokens=validation.num_tokens_in(probe_rows(validation, config.global_batch_size)),
        num_experts=num_experts,
        top_k=top_k,
        is_balanced=balanced_mixture(model_config) is not None and balance_coefficient(config, model_config) > 0,
        attention_cap=getattr(model_config.get_text_config(), "attn_logit_softcapping", None),
        data=_data_facts(train, tokenizer_file),
    )


def _data_facts(train: Split, tokenizer_file: Path | None) -> DataFacts:
    if isinstance(train, PackedSplit):
        return measure_data(train, tokenizer_file)
    return measure_labels(train) if isinstance(train, LabelledSplit) else DataFacts()
