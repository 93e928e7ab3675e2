"""By how much figures of two runs would differ by chance: with other held-out documents of the same kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.comparison.recorded_run import Run
from pipeline.evaluation.intervals import Interval

Between = Callable[[int, int], Interval | None]


class Noise:
    """Of runs, whose documents are read when they are asked for."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._documents: dict[int, Any] = {}

    def of(self, key: str, groups: Sequence[Mapping[str, Any]], source: str | None = None) -> Between:
        """What gives the 95 % interval of a figure of one run less that of another, by their indices; None where it is
        not known.

        Of the same documents it is paired. Else it has the root of the sum of the squares of both figures' half widths,
        as of independent ones. `groups` are the scores of each run, of all documents or of those of a `source`.
        """

        def between(first: int, second: int) -> Interval | None:
            return self._paired(key, source, first, second) or _independent(key, groups[first], groups[second])

        return between

    def _paired(self, key: str, source: str | None, first: int, second: int) -> Interval | None:
        from pipeline.evaluation.scored_documents import paired_difference

        found = [self._of_run(index) for index in (first, second)]
        if None in found:
            return None
        one, other = found if source is None else [documents.of(source) for documents in found]
        return paired_difference(one, other, key)

    def _of_run(self, index: int) -> Any:
        from pipeline.evaluation.scored_documents import ScoredDocuments

        folder = self._runs[index].folders.get("evaluate")
        if index not in self._documents:
            self._documents[index] = ScoredDocuments.read(folder) if folder is not None else None
        return self._documents[index]


def _independent(key: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Interval | None:
    intervals = [found for scores in (one, other) if (found := (scores.get("intervals") or {}).get(key))]
    if len(intervals) < 2:
        return None
    half = math.hypot(*((high - low) / 2 for low, high in intervals))
    difference = other[key] - one[key]
    return difference - half, difference + half
