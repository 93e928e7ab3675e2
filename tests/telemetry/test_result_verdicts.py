"""A result is judged by its paired intervals: what lies within them is called noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.metrics.accuracy import Accuracy
from pipeline.evaluation.predictions import score_rows
from pipeline.telemetry.result_verdicts import judge_result, last_fall
from pipeline.telemetry.verdicts import Evidence, Verdict, headline


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


WORSE = language_model(2.0, bigram=(1.5, [0.4, 0.6]))
FALLING = [7 * 0.99**step for step in range(50)]
FLAT = [5.95 + 0.03 * (-1) ** step for step in range(50)]


def test_a_short_training_that_still_learns_is_no_broken_one() -> None:
    (short,) = judge_result(WORSE, (), last_fall(FALLING))
    assert (short.what, short.verdict) == ("still_learning", "note")
    assert short.remedy.startswith("train longer")
    # By hand: the middle fifth has records 20 to 29, the last 40 to 49; medians lie halfway between two.
    middle, last = (3.5 * (0.99**step + 0.99 ** (step + 1)) for step in (24, 44))
    assert f"still falling when the training ended: its median was {middle:.4g}" in short.evidence.words
    assert f"{last:.4g} in the last" in short.evidence.words
    (stuck,) = judge_result(WORSE, (), last_fall(FLAT))
    assert (stuck.what, stuck.verdict) == ("no_better_than_baseline", "critical")
    assert "no longer fell" in stuck.evidence.words
    assert "train longer" not in stuck.remedy
    (few,) = judge_result(WORSE, (), last_fall(FALLING[:4]))
    assert (few.what, few.verdict) == ("no_better_than_baseline", "critical")


def test_of_few_losses_a_clear_fall_is_told_and_a_small_one_left_open() -> None:
    (clear,) = judge_result(WORSE, (), last_fall([8.3, 7.4, 6.9, 6.6, 6.4, 6.2, 6.1]))
    assert (clear.what, clear.verdict) == ("still_learning", "note")
    (open_,) = judge_result(WORSE, (), last_fall([8.3, 7.4, 6.4, 6.3, 6.3, 6.2, 6.2]))
    assert (open_.what, open_.verdict) == ("no_better_than_baseline", "critical")
    assert "no longer fell" not in open_.evidence.words


def test_of_a_broken_training_the_remedy_is_that_of_what_broke_it() -> None:
    def told(kind: str, what: str, severity: str, since: int) -> Verdict:
        return Verdict(kind, what, severity, Evidence(150, "9 of 7"), f"mend {what}", since=since)

    training = [told("loss", "no_learning", "critical", 150), told("updates", "unstable_updates", "critical", 6)]
    training.append(told("speed", "waiting_for_data", "critical", 3))
    within = language_model(2.0, bigram=(2.1, [-0.3, 0.1]))
    for evaluation in (WORSE, within):
        (verdict,) = judge_result(evaluation, training, last_fall(FALLING))
        assert verdict.what == judge_result(evaluation)[0].what
        assert verdict.remedy == "mend first unstable updates: mend unstable_updates"
    (verdict,) = judge_result(WORSE, [told("loss", "loss_plateau", "warning", 60)], last_fall(FALLING))
    assert verdict.what == "still_learning", "a warning breaks no training"
    better = language_model(2.0, bigram=(2.5, [-0.6, -0.4]))
    assert judge_result(better, training, last_fall(FALLING)) == judge_result(better)


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
