"""The documents that a model does worst on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.documents import EXCERPT_CHARS, Document

WORST = 10


def worst_documents(documents: Iterable[Document], figures: NDArray[np.float64], key: str) -> list[dict[str, Any]]:
    """The WORST documents by a figure of each (documents,), largest first: the figure, where each document is from, its
    size, and how it begins."""
    chosen = np.argsort(-figures, kind="stable")[:WORST].tolist()
    found = {
        index: {
            key: float(figures[index]),
            "id": document.id,
            "source": document.source,
            "origin": document.origin,
            "bytes": document.num_bytes,
            "text": document.text[:EXCERPT_CHARS],
        }
        for index, document in enumerate(documents)
        if index in chosen
    }
    return [found[index] for index in chosen]
