"""What the terminal is told of a record."""

from __future__ import annotations

from pipeline.training.recording.metrics_log import record_in_words, validation_line


def test_a_record_in_a_few_words() -> None:
    values = {
        "train/loss": 3.25,
        "train/grad_norm": 0.5,
        "train/learning_rate": 1e-3,
        "train/skipped_steps": 2.0,
        "throughput/tokens_per_second": 4321.0,
        "throughput/mfu": 0.41,
        "throughput/peak_flops_per_second": 375.4e9,
        "time/data_seconds": 0.01,
        "time/forward_backward_seconds": 0.15,
        "time/optimizer_seconds": 0.03,
        "time/rest_seconds": 0.01,
        "memory/peak_bytes": 2.5e9,
    }
    assert record_in_words(values, "measured") == (
        "loss 3.250, gradient 0.50, learning rate 1.00e-03, 4,321 tokens/s, 41% of 375 GFLOP/s (measured), "
        "data 5% + forward-backward 75% + optimizer 15% + rest 5%, 2.50 GB, 2 steps skipped"
    )


def test_a_validation_in_a_few_words() -> None:
    values = {"eval/loss": 2.34567, "eval/perplexity": 10.441, "eval/loss_error": 0.0312, "eval/ema_loss": 2.25}
    assert validation_line({**values, "health/loss": 0.0}) == (
        "validation loss 2.346 ± 0.031, perplexity 10.44, ema loss 2.25"
    )
