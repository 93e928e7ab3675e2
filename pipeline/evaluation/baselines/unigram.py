"""Token frequencies."""

from __future__ import annotations

import numpy as np

from pipeline.evaluation.baselines.base_baseline import Coded, Texts, bits_of_documents, count_ids


def unigram(texts: Texts) -> dict[str, Coded]:
    """A model that knows only how often each token occurs in the training stream, with add-one smoothing."""
    counts = count_ids(texts.train) + 1
    bits = -np.log2(counts / counts.sum())
    what = "tokens drawn independently, as often as in the training stream (add-one smoothing)"
    return {"unigram": Coded(bits_of_documents(texts, lambda before, ids: bits[ids]), what)}
