"""What an evaluation says of a model: whether it knows more than those that know little."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from pipeline.evaluation.benchmarks import Score
from pipeline.tasks import TaskWords, task_named
from pipeline.telemetry.verdicts import Evidence, Verdict, by_severity

KIND = "result"
FOR_INFORMATION = "xz_primed"
"""A baseline that has read the training text word for word: no model has to be better."""

PAIRED = "95 % interval of the difference over documents (bootstrap: Efron 1979)"
GUESSING = "1.96 standard errors of a guesser's share"
LEARN_MORE = "train longer (train.max_steps), or on more text"
NO_LONGER_FALLS = (
    "more steps of the same will not help, since the training loss no longer falls: give the model more layers or "
    "width (model.config), or try a train.learning_rate three times as large, and a third of it"
)
LOOK = "see whether the training loss was still falling when the training ended; if so, train longer (train.max_steps)"
MEASURE_MORE = "take more test documents (curate.test_fraction, or a source with `split: test`)"
MAX_LISTED = 3
FALL = 0.02
"""By what part the training loss has to be lower at the end than in the middle to be called falling. Medians of ten
losses of a training that learns nothing differ by 0.005."""

MANY_LOSSES, FEWEST_LOSSES, FALL_OF_FEW = 20, 5, 0.06
"""Of fewer than many losses single ones are compared, which differ by up to 0.05 where nothing is learned: a smaller
fall than that is left open."""

BREAKS = ("loss", "validation", "gradients", "updates", "activations", "attention", "experts")
"""Kinds of critical verdicts after which a result is explained by them."""


def judge_result(
    evaluation: Mapping[str, Any], training: Sequence[Verdict] = (), fall: Sequence[float] | None = None
) -> list[Verdict]:
    """Verdicts on an evaluation by its summary, worst first. The verdicts of the `training` and the `last_fall` of
    its loss tell one that was merely short from one that does not learn."""
    against = _explained(_against_baselines(evaluation), training, fall)
    return by_severity([against, *_against_chance(evaluation)])


def last_fall(losses: Iterable[float]) -> tuple[float, float] | None:
    """The median loss of the middle fifth of a training, and of its last; None where the losses are too few to tell
    whether it fell."""
    found = list(losses)
    part = len(found) // 5
    if len(found) < FEWEST_LOSSES:
        return None
    before, now = median(found[2 * part : 3 * part]), median(found[-part:])
    return (before, now) if len(found) >= MANY_LOSSES or now < (1 - FALL_OF_FEW) * before else None


def _explained(verdict: Verdict, training: Sequence[Verdict], fall: Sequence[float] | None) -> Verdict:
    """A bad result with its reason: what broke the training, that it was short, or that it had stopped to learn."""
    if verdict.is_healthy:
        return verdict
    broken = next((one for one in by_severity(training) if one.verdict == "critical" and one.kind in BREAKS), None)
    if broken is not None:
        first = "" if broken.remedy.startswith("mend first") else f"mend first {broken.name}: "
        return replace(verdict, remedy=f"{first}{broken.remedy}")
    if verdict.what != "no_better_than_baseline" or fall is None:
        return verdict
    before, now = fall
    is_falling = now < (1 - FALL) * before
    words = (
        f"{verdict.evidence.words}; the training loss {'was still falling' if is_falling else 'no longer fell'} when "
    )
    words += f"the training ended: its median was {before:.4g} in the middle fifth of the steps, {now:.4g} in the last"
    evidence = replace(verdict.evidence, words=words)
    if is_falling:
        return replace(verdict, what="still_learning", verdict="note", evidence=evidence, remedy=LEARN_MORE)
    return replace(verdict, evidence=evidence, remedy=NO_LONGER_FALLS)


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
    what, remedy = ("within_noise", MEASURE_MORE) if is_more else ("no_better_than_baseline", LOOK)
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
