"""Where a language model's loss comes from: by position, by how frequent tokens are, and how sure it was."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.losses import TokenFigures

FREQUENCY_GROUPS = 10
CALIBRATION_BINS = 15


class TokenRecords:
    """Sums over the tokens of a test split, taken in the order of its stream. `train_counts` says how often each id
    occurs in the training stream, (vocab_size,)."""

    def __init__(self, train_counts: NDArray[np.int64]) -> None:
        self._group_of = frequency_groups(train_counts)
        self._kinds = np.bincount(self._group_of, minlength=FREQUENCY_GROUPS + 1)
        self._frequency = np.zeros((2, FREQUENCY_GROUPS + 1))
        self._position = np.zeros((2, 64))
        self._calibration = np.zeros((3, CALIBRATION_BINS))
        self._longest = 0

    def add(self, ids: NDArray[Any], found: TokenFigures) -> None:
        """Add the tokens `ids` (n,) and what the model gave for each."""
        ones = np.ones(len(ids))
        self._longest = max(self._longest, int(found.context.max(initial=0)))
        losses = (found.nll, ones)
        _add(self._frequency, self._group_of[ids], losses)
        _add(self._position, np.frexp(found.context)[1] - 1, losses)  # 2^n <= context < 2^(n + 1)
        _add(self._calibration, bins_of(found.confidence), (found.confidence, found.is_likeliest, ones))

    def as_json(self) -> dict[str, Any]:
        """`by_position`: the loss in nats a token, by the least and the most tokens of context; `by_frequency`: by
        groups from the most frequent tokens to those never seen in training; `calibration`."""
        positions = [
            {"from": 2**n, "to": min(2 ** (n + 1) - 1, self._longest), "loss": nll / tokens, "tokens": round(tokens)}
            for n, (nll, tokens) in enumerate(self._position.T.tolist())
            if tokens
        ]
        groups = [
            {"group": group, "kinds": int(self._kinds[group]), "loss": nll / tokens, "tokens": round(tokens)}
            for group, (nll, tokens) in enumerate(self._frequency.T.tolist())
            if tokens
        ]
        return {"by_position": positions, "by_frequency": groups, "calibration": calibration(self._calibration)}


def frequency_groups(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The group of each id, (vocab_size,): 0 has the most frequent ids, and each of the ten about a tenth of all
    occurrences; the last group, number 10, has the ids that never occur."""
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    groups = np.empty(len(counts), dtype=np.int64)
    groups[order] = np.minimum(FREQUENCY_GROUPS * before // max(1, counts.sum()), FREQUENCY_GROUPS - 1)
    groups[counts == 0] = FREQUENCY_GROUPS
    return groups


def bins_of(confidence: NDArray[Any]) -> NDArray[np.int64]:
    """The bin of each probability: of CALIBRATION_BINS equally wide ones. What is no number is in the first."""
    return np.clip((np.nan_to_num(confidence) * CALIBRATION_BINS).astype(np.int64), 0, CALIBRATION_BINS - 1)


def calibration_of(confidence: NDArray[np.float64], is_right: NDArray[np.bool_]) -> dict[str, Any]:
    """`calibration` of predictions, from the probability that the model gave each, (n,)."""
    sums = np.zeros((3, CALIBRATION_BINS))
    _add(sums, bins_of(confidence), (confidence, is_right, np.ones(len(confidence))))
    return calibration(sums)


def calibration(sums: NDArray[np.float64]) -> dict[str, Any]:
    """`error`: the expected calibration error, how far the share of right predictions is from the probability that the
    model gave them, on average; and the `bins` that are not empty. `sums` (3, bins) are probabilities, right
    predictions, and predictions.

    Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    total = sums[2].sum()
    bins = [
        {"confidence": sure / number, "accuracy": right / number, "predictions": round(number)}
        for sure, right, number in sums.T.tolist()
        if number
    ]
    return {"error": float(np.abs(sums[0] - sums[1]).sum() / total) if total else None, "bins": bins}


def _add(sums: NDArray[np.float64], places: NDArray[np.int64], values: tuple[NDArray[Any], ...]) -> None:
    for row, value in zip(sums, values, strict=True):
        np.add.at(row, places, value)
