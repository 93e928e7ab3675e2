"""A result is judged by its paired intervals: what lies within them is called noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.metrics.accuracy import Accuracy
from pipeline.evaluation.predictions import score_rows
from pipeline.telemetry.result_verdicts import judge_result
from pipeline.telemetry.verdicts import Verdict, headline


def language_model(bits: float, documents: int = 50, **differences: tuple[float, list[float] | None]) -> dict[str, Any]:
    """An evaluation with baselines, of each the figure and the interval of the model's less it."""
    baselines = {name: {"bits_per_byte": of, "difference": ends} for name, (of, ends) in differences.items()}
    test = {"bits_per_byte": bits, "documents": documents}
    return {"task": "causal_lm", "test": test, "sources": {}, "baselines": baselines, "samples": []}


def only(evaluation: dict[str, Any]) -> Verdict:
    (verdict,) = judge_result(evaluation)
    assert verdict.kind == "result"
    assert verdict == Verdict.from_json(verdict.as_json())
    return verdict


@pytest.mark.parametrize(
    ("bigram", "what", "severity", "words"),
    [
        (
            (2.5, [-0.6, -0.4]),
            "result",
            "healthy",
            "2, of bigram 2.5: the model needs 20.0% fewer bits, ±0.1 bits",
        ),
        (
            (2.1, [-0.3, 0.1]),
            "within_noise",
            "warning",
            "needs 4.8% fewer bits, ±0.2 bits per byte, which is",
        ),
        ((2.0, [-0.1, 0.1]), "no_better_than_baseline", "warning", "within the noise"),
        (
            (1.9, [-0.1, 0.3]),
            "no_better_than_baseline",
            "warning",
            "more bits, ±0.2 bits per byte, which is within",
        ),
        ((1.5, [0.4, 0.6]), "no_better_than_baseline", "critical", "2, of bigram 1.5: the model needs 33.3% more bits"),
    ],
)
def test_the_verdict_goes_by_the_least_that_is_gained(
    bigram: tuple[float, list[float]], what: str, severity: str, words: str
) -> None:
    verdict = only(language_model(2.0, unigram=(4.0, [-2.2, -1.8]), bigram=bigram, xz_primed=(1.0, [0.9, 1.1])))
    assert (verdict.what, verdict.verdict) == (what, severity)
    assert words in verdict.evidence.words


def test_without_intervals_or_baselines_nothing_is_claimed() -> None:
    few = only(language_model(2.0, documents=7, bigram=(9.0, None)))
    assert (few.verdict, few.evidence.words) == ("unknown", "no intervals of 7 test documents")
    assert only(language_model(2.0)).verdict == "unknown"
    assert headline([few]) == few.in_words


def labelled(share: float, number: int) -> dict[str, Any]:
    """Of a classifier with two classes of which one has 6 of 10 documents, and which is right so often."""
    draw = np.random.default_rng(3)
    targets = (np.arange(number) % 10 < 4).astype(np.int64)
    predictions = np.where(draw.random(number) < share, targets, 1 - targets)
    found = score_rows(predictions, np.ones(number), targets, ["s"] * number, [Accuracy()], ("majority_class", 0, "x"))
    return {"task": "classification", **found}


def test_a_few_more_right_of_few_documents_are_noise_and_of_many_are_not() -> None:
    few = only(labelled(0.65, 200))
    assert (few.what, few.verdict) == ("within_noise", "warning")
    low, high = few.evidence.figures["least_gain"], few.evidence.figures["most_gain"]
    assert low < 0 < high
    gain = 100 * (few.evidence.figures["figure"] - 0.6)
    assert f"the model gets {gain:.1f} more of 100 documents right, ±{50 * (high - low):.1f} of 100" in (
        few.evidence.words
    )
    assert "curate.test_fraction" in few.remedy
    assert only(labelled(0.65, 20_000)).verdict == "healthy"
    assert only(labelled(0.5, 20_000)).verdict == "critical"
    # The majority itself.
    same = labelled(0.6, 100)
    same["test"]["accuracy"] = same["baselines"]["majority_class"]["accuracy"]
    same["baselines"]["majority_class"]["difference"] = [0.0, 0.0]
    assert (only(same).what, only(same).verdict) == ("no_better_than_baseline", "warning")


def test_a_benchmark_at_chance_is_a_note() -> None:
    def score(task: str, value: float) -> dict[str, Any]:
        return {"task": task, "metric": "acc", "value": value, "documents": 400, "chance": 0.25, "better": "higher"}

    evaluation = language_model(2.0, bigram=(2.5, [-0.6, -0.4]))
    evaluation["benchmarks"] = [score("arc", 0.27), score("piqa", 0.6), score("boolq", 0.1)]
    note, healthy = judge_result(evaluation)
    assert (note.what, note.verdict, healthy.verdict) == ("benchmark_at_chance", "note", "healthy")
    assert note.evidence.words == "no better than guessing: arc acc 0.27 (chance 0.25), boolq acc 0.1 (chance 0.25)"
    evaluation["benchmarks"] = [score("piqa", 0.6)]
    assert only(evaluation).verdict == "healthy"
