"""Whether the labels of texts depend on the texts at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.telemetry.facts import DataFacts
from pipeline.tokens.labelled_split import LabelledSplit

MOST_DOCUMENTS, MOST_TOKENS, FEWEST_DOCUMENTS = 20_000, 256, 200
FEWEST_OF_OTHER_LABELS = 100
"""_Texts that have not the most frequent label: of fewer, a healthy task may show no evidence."""


def measure_labels(split: LabelledSplit) -> DataFacts:
    """Facts of texts with labels, or of an even sample of them."""
    chosen = np.linspace(0, len(split) - 1, min(len(split), MOST_DOCUMENTS)).astype(int)
    spans = ((split.starts[one], min(int(split.lengths[one]), MOST_TOKENS)) for one in chosen)
    texts = [np.unique(split.stream[start : start + length]).astype(np.int64) for start, length in spans]
    return DataFacts(label_evidence=label_evidence(texts, split.targets[chosen], split.vocab_size))


def label_evidence(texts: list[NDArray[np.int64]], labels: NDArray[np.number], vocab_size: int) -> float | None:
    """By how many standard deviations texts tell their labels better than chance; about 0 of shuffled labels. None of
    too few texts, or too few that have not the most frequent label.

    Each half of the texts is judged by what the other half tells of each token: naive Bayes of the tokens that a text
    holds for classes, mean labels for numbers. The score of a text's own label is held against its mean and variance
    had the label been drawn from the frequencies of labels.
    """
    _, counts = np.unique(labels, return_counts=True)
    if len(texts) < FEWEST_DOCUMENTS or len(texts) - counts.max() < FEWEST_OF_OTHER_LABELS:
        return None
    halves = np.random.default_rng(0).permutation(len(texts)) % 2
    excess = variance = 0.0
    for half in (0, 1):
        known = [text for text, own in zip(texts, halves, strict=True) if own != half]
        asked = [text for text, own in zip(texts, halves, strict=True) if own == half]
        is_of_classes = np.issubdtype(labels.dtype, np.integer)
        found = (_of_classes if is_of_classes else _of_numbers)(
            known, labels[halves != half], asked, labels[halves == half], vocab_size
        )
        excess, variance = excess + found[0], variance + found[1]
    return excess / variance**0.5 if variance > 0 else 0.0


_Texts = list[NDArray[np.int64]]


def _of_classes(
    known: _Texts, of_known: NDArray[np.number], asked: _Texts, of_asked: NDArray[np.number], vocab_size: int
) -> tuple[float, float]:
    classes, of_known = np.unique(of_known, return_inverse=True)
    counts = np.zeros((len(classes), vocab_size))
    for text, label in zip(known, of_known, strict=True):
        counts[label, text] += 1
    sizes = np.bincount(of_known, minlength=len(classes))[:, None]
    weights = np.log((counts + 1) / (sizes + 2)).T
    scores = np.stack([weights[text].mean(0) for text in asked])
    own = of_asked[:, None] == classes
    frequencies = own.mean(0)
    scores -= (scores @ frequencies)[:, None]
    return float(scores[own].sum()), float((scores**2 @ frequencies).sum())


def _of_numbers(
    known: _Texts, of_known: NDArray[np.number], asked: _Texts, of_asked: NDArray[np.number], vocab_size: int
) -> tuple[float, float]:
    centered = of_known - of_known.mean()
    sums, counts = np.zeros(vocab_size), np.zeros(vocab_size)
    for text, label in zip(known, centered, strict=True):
        sums[text] += label
        counts[text] += 1
    effects = sums / (counts + 1)
    scores = np.array([effects[text].mean() for text in asked])
    scores -= scores.mean()
    numbers = of_asked - of_asked.mean()
    return float(scores @ numbers), float((scores**2).sum() * (numbers**2).mean())
