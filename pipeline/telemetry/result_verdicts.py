"""What an evaluation says of a model: whether it knows more than those that know little."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.evaluation.benchmarks import Score
from pipeline.tasks import TaskWords, task_named
from pipeline.telemetry.verdicts import Evidence, Verdict, by_severity

KIND = "result"
FOR_INFORMATION = "xz_primed"
"""A baseline that has read the training text word for word: no model has to be better."""

PAIRED = "95 % interval of the difference over documents (bootstrap: Efron 1979)"
GUESSING = "1.96 standard errors of a guesser's share"
LEARN_MORE = "train longer (train.max_steps) or on more text; see the verdicts on the training"
MEASURE_MORE = "take more test documents (curate.test_fraction, or a source with `split: test`)"
MAX_LISTED = 3


def judge_result(evaluation: Mapping[str, Any]) -> list[Verdict]:
    """Verdicts on the summary of an evaluation, worst first."""
    return by_severity([_against_baselines(evaluation), *_against_chance(evaluation)])


def _against_baselines(evaluation: Mapping[str, Any]) -> Verdict:
    """By the baseline that the model is least clearly better than."""
    words = task_named(evaluation["task"]).words_for(evaluation)
    own, key = evaluation["test"].get(words.main.key), words.main.key
    others = {
        name: one
        for name, one in evaluation["baselines"].items()
        if name != FOR_INFORMATION and one.get(key) is not None
    }
    if own is None or not others:
        return _unknown("the model was compared with no baseline")
    if any(one.get("difference") is None for one in others.values()):
        return _unknown(f"no intervals of {evaluation['test'].get('documents', 0):,} test documents")
    found = [_against(name, own, one, words) for name, one in others.items()]
    return min(found, key=lambda one: one.evidence.figures["least_gain"])


def _against(name: str, own: float, baseline: Mapping[str, Any], words: TaskWords) -> Verdict:
    other, main = baseline[words.main.key], words.main
    ends = baseline["difference"] if main.better == "higher" else [-end for end in baseline["difference"]]
    least, most = sorted(ends)
    is_clear = least > 0 or most < 0
    is_share = main.style == "percent"
    shown = [f"{value:.1%}" if is_share else f"{value:.4g}" for value in (own, other)]
    margin = f"{50 * (most - least):.1f} of 100" if is_share else f"{(most - least) / 2:.2g} {main.name}"
    compared = ", ".join(
        [*filter(None, [words.verdict(own, other)]), f"±{margin}", *([] if is_clear else ["which is within the noise"])]
    )
    evidence = Evidence(
        None,
        f"{main.name} {shown[0]}, of {name.replace('_', ' ')} {shown[1]}: {compared}",
        figures={"figure": own, "baseline": other, "least_gain": least, "most_gain": most},
    )
    if least > 0:
        return Verdict(KIND, KIND, "healthy", evidence, source=PAIRED)
    is_more = own > other if main.better == "higher" else own < other
    what, remedy = ("within_noise", MEASURE_MORE) if is_more else ("no_better_than_baseline", LEARN_MORE)
    return Verdict(KIND, what, "critical" if most < 0 else "warning", evidence, remedy, PAIRED)


def _against_chance(evaluation: Mapping[str, Any]) -> list[Verdict]:
    """One verdict on all scores of benchmarks that guessing explains."""
    scores = [Score(**one) for one in evaluation.get("benchmarks") or ()]
    guessed = [score for score in scores if score.against_chance in ("at", "below")]
    if not guessed:
        return []
    listed = [f"{one.task} {one.metric} {one.value:.3g} (chance {one.chance:.3g})" for one in guessed[:MAX_LISTED]]
    more = f" and {len(guessed) - MAX_LISTED} more" if len(guessed) > MAX_LISTED else ""
    words = f"no better than guessing: {', '.join(listed)}{more}"
    remedy = "a larger model or more training; at this size the task may tell nothing"
    return [Verdict(KIND, "benchmark_at_chance", "note", Evidence(None, words), remedy, GUESSING)]


def _unknown(reason: str) -> Verdict:
    return Verdict(KIND, KIND, "unknown", Evidence(None, reason))
