"""What is said of a training's health: verdicts, each with its evidence, a remedy and where its threshold is from.

Imports nothing heavy: reports and verbs read verdicts too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

SEVERITIES = ("healthy", "unknown", "note", "warning", "critical")
"""Worst last."""

KINDS = (
    "loss",
    "validation",
    "gradients",
    "updates",
    "activations",
    "attention",
    "experts",
    "data",
    "speed",
    "result",
)
"""What verdicts are about, in the order in which they are shown."""

CAUSES = {
    "loss_at_the_start", "loss_above_guessing", "unstable_updates", "overwritten_weights", "stalled_updates",
    "strong_decay", "always_clipped", "other_validation_text", "text_without_order", "labels_without_text",
    "one_token_documents",
}  # fmt: skip
"""Verdicts that name what is to be mended."""

CONSEQUENCES = {"no_better_than_frequencies", "nothing_learned", "loss_plateau", "uniform_attention"}
"""Verdicts that say that nothing is learned, whatever the cause."""

HEALTH = "health.jsonl"
"""In a training's folder: a line for each change of a verdict."""

LEVELS = {"healthy": 0, "unknown": 0, "note": 1, "warning": 2, "critical": 3}
"""Of `health/<kind>` in the records."""


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on: the step (None: before any), the place in the model ("" for all of it), finite figures
    by name, and a sentence that holds them."""

    step: int | None
    words: str
    where: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """One rule's finding, or that a kind is healthy or unknown. `since`: the step from which it held."""

    kind: str
    what: str
    verdict: str
    evidence: Evidence
    remedy: str = ""
    source: str = ""
    since: int | None = None

    @property
    def is_healthy(self) -> bool:
        """Whether there is nothing to say."""
        return LEVELS[self.verdict] == 0

    @property
    def name(self) -> str:
        """What was found, for people."""
        return self.what.replace("_", " ")

    @property
    def in_words(self) -> str:
        """The verdict with its whole reason."""
        return f"{self.verdict}: {self.name}: {self.evidence.words}"

    def as_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Verdict | None:
        """From a JSON object; None for what is no verdict, since files are not trusted."""
        if not isinstance(value, Mapping) or not isinstance(value.get("evidence"), Mapping):
            return None
        evidence, texts = value["evidence"], [value.get(name, "") for name in ("kind", "what", "remedy", "source")]
        words, where = evidence.get("words"), evidence.get("where", "")
        steps, figures = (evidence.get("step"), value.get("since")), evidence.get("figures", {})
        is_right = (
            all(isinstance(text, str) for text in (*texts, words, where))
            and all(step is None or isinstance(step, int) for step in steps)
            and isinstance(figures, Mapping)
            and value.get("verdict") in SEVERITIES
        )
        if not is_right:
            return None
        kind, what, remedy, source = texts
        kept = {str(name): float(one) for name, one in figures.items() if _is_finite(one)}
        return cls(kind, what, value["verdict"], Evidence(steps[0], words, where, kept), remedy, source, steps[1])


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def verdicts_of(values: Any) -> list[Verdict]:
    """The verdicts in a list of JSON values, in order; what is none is left out."""
    found = (Verdict.from_json(value) for value in values) if isinstance(values, list) else ()
    return [verdict for verdict in found if verdict is not None]


def by_severity(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """The same, worst first. Of equally bad ones those that name a cause come first and mere consequences last; then
    the earliest: others may follow from it; then in the order of KINDS."""
    kinds = {kind: position for position, kind in enumerate(KINDS)}

    def rank(one: Verdict) -> tuple[int, int, float, int]:
        since = one.since if one.since is not None else math.inf if one.kind == "result" else -1
        part = 0 if one.what in CAUSES else 2 if one.what in CONSEQUENCES else 1
        return -SEVERITIES.index(one.verdict), part, since, kinds.get(one.kind, len(KINDS))

    return sorted(verdicts, key=rank)


def cause_of(verdicts: Iterable[Verdict]) -> Verdict | None:
    """What is to be mended first where nothing is learned: of the bad verdicts that are no mere consequences, the worst
    that is critical or names a cause; None of none. Overfitting and a slow machine are no causes of that."""
    for one in by_severity(verdicts):
        is_bad = LEVELS[one.verdict] == 3 or (LEVELS[one.verdict] == 2 and one.what in CAUSES)
        if is_bad and one.kind not in ("validation", "speed", "result") and one.what not in CONSEQUENCES:
            return one
    return None


def with_its_cause(verdict: Verdict, others: Iterable[Verdict]) -> Verdict:
    """A consequence with the remedy of its cause among the other verdicts; any other verdict as it is."""
    cause = cause_of(others) if verdict.what in CONSEQUENCES and not verdict.is_healthy else None
    return verdict if cause is None else replace(verdict, remedy=f"mend first {cause.name}: {cause.remedy}")


def worst(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The worst of the verdicts; None of none."""
    return next(iter(by_severity(verdicts)), None)


def headline(verdicts: Iterable[Verdict]) -> str:
    """The worst verdict with its reason; "healthy" when there is nothing to say, "unknown" of no verdicts."""
    found = list(verdicts)
    if (one := worst(found)) is None:
        return "unknown"
    return "healthy" if one.is_healthy and any(v.verdict == "healthy" for v in found) else one.in_words


def last_verdicts(folder: Path) -> list[Verdict]:
    """The verdicts that held when the records in a folder ended, from `health.jsonl`; what is no verdict is left
    out."""
    import json

    found: dict[str, Verdict] = {}
    if (folder / HEALTH).is_file():
        for line in (folder / HEALTH).read_bytes().splitlines():
            try:
                verdict = Verdict.from_json(json.loads(line))
            except (ValueError, RecursionError):
                continue
            if verdict is not None:
                found[verdict.what] = verdict
    return by_severity(found.values())
