"""The figures of a finished training, as JSON values."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import Any

from pipeline.telemetry.layer_series import median_layers
from pipeline.telemetry.result_verdicts import last_fall
from pipeline.training.guarding.spike_documents import verdict_on_spikes
from pipeline.training.precision import precision_in_words
from pipeline.training.recording.metrics_file import read_metrics
from pipeline.training.recording.peak_flops import peak_of
from pipeline.training.train_state import TrainState


def totals_of(state: TrainState) -> dict[str, Any]:
    """Steps taken, and the data seen in them."""
    sequences = state.counters.step * state.config.global_batch_size
    reads = state.epoch.reads(sequences)
    return {
        "steps": state.counters.step,
        "target_tokens": state.counters.target_tokens,
        "sequences": sequences,
        "epochs": round(sequences / state.epoch.windows, 6),
        **({"reads": {name: round(times, 6) for name, times in reads.items()}} if reads else {}),
    }


def summarize(state: TrainState) -> dict[str, Any]:
    """Losses, speed, what went wrong, and the verdicts. `layers` has medians over the records."""
    counters, device, precision = state.counters, state.device, state.config.mixed_precision
    history, panel = read_metrics(state.work), state.log.panel
    return {
        "final_loss": _last(history, "train/loss"),
        "eval_loss": _last(history, "eval/loss"),
        "last_fall": last_fall(line["train/loss"] for line in history if "train/loss" in line),
        "seconds": round(counters.seconds, 3),
        "tokens_per_second": _tokens_per_second(state),
        "parameters": state.unwrapped_model.num_parameters(),
        "mfu": _median(history, "throughput/mfu"),
        "peak": asdict(peak_of(device, precision)),
        "precision": precision_in_words(precision, device),
        "peak_memory_bytes": _last(history, "memory/peak_bytes"),
        "skipped_steps": counters.skipped_steps,
        "loss_spikes": counters.losses.spikes,
        "grad_norm_spikes": counters.grad_norms.spikes,
        "rollbacks": counters.rollbacks,
        "resumed_from_steps": counters.resumed_from_steps,
        "health": [verdict.as_json() for verdict in panel.verdicts(verdict_on_spikes(counters))]
        if panel is not None
        else [],
        "facts": panel.facts.as_json() if panel is not None else {},
        "layers": median_layers(history),
        "library_versions": state.numerics,
    }


def _tokens_per_second(state: TrainState) -> float:
    """Tokens that are no padding. Each is a target, unless a whole sequence has one label."""
    split, counters = state.train_split, state.counters
    tokens_per_target = split.num_tokens_in(range(len(split))) / split.target_tokens
    return float(round(tokens_per_target * counters.target_tokens / counters.seconds, 1))


def _last(history: list[dict[str, Any]], tag: str) -> float | None:
    return next((line[tag] for line in reversed(history) if tag in line), None)


def _median(history: list[dict[str, Any]], tag: str) -> float | None:
    found = [line[tag] for line in history if tag in line]
    return round(statistics.median(found), 4) if found else None
