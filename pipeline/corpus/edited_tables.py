"""What is left of the texts of documents that stay: filters take lines away, repeated paragraphs go."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.corpus.curate_config import DropReason, reasons_to_drop
from pipeline.corpus.document_batches import DocumentBatch, column_texts
from pipeline.corpus.filters import EditingFilter, Filter

BREAKS = re.compile(r"(\n\s*\n)")
"""What is between paragraphs."""


def edit_table(
    table: pa.Table, stays: NDArray[np.bool_], filters: Sequence[Filter], repeated: Mapping[int, Collection[int]]
) -> tuple[pa.Table, dict[int, DropReason], Counter[str]]:
    """The documents of a table, of those that stay the text that is left of it, with what took some away in `changes`;
    the documents that have to go after all, by row; and how many were changed by what. `repeated` has the places of
    repeated paragraphs by row: the filters are asked again of what is left without them."""
    is_edited = any(isinstance(one, EditingFilter) for one in filters)
    if not (is_edited or repeated) or not stays.any():
        return table, {}, Counter()
    whole = column_texts(table.column("text"))
    batch = DocumentBatch(table.drop_columns("text"), [*whole], [()] * len(whole), 0)
    rows = np.flatnonzero(stays).tolist()
    for row, text, names in zip(rows, *edited_texts([whole[row] for row in rows], filters), strict=True):
        batch.texts[row] = text
        batch.changes[row] = tuple(names)
    for row, places in repeated.items():
        batch.texts[row] = without(batch.texts[row], places)
        batch.changes[row] += ("deduplicate_paragraphs",)
    mask = np.isin(np.arange(len(whole)), list(repeated))
    left = batch.keep(mask)
    reasons = reasons_to_drop(left, filters) if repeated else []
    failed = {}
    for row, text, reason in zip(np.flatnonzero(mask).tolist(), left.texts, reasons, strict=True):
        batch.texts[row] = whole[row] if reason else text
        if reason:
            failed[row] = reason
    counts = Counter(chain.from_iterable(batch.changes))
    batch.changes = [tuple(f"curate:{name}" for name in names) for names in batch.changes]
    return batch.to_table(), failed, counts


def edited_texts(texts: Sequence[str], filters: Sequence[Filter]) -> tuple[list[str], list[list[str]]]:
    """What filters leave of texts that pass them, and for each the types of those that took something away."""
    left = list(texts)
    names: list[list[str]] = [[] for _ in texts]
    for one in filters:
        if isinstance(one, EditingFilter):
            for number, text in enumerate(left):
                left[number], _ = one.edited(text)
                if left[number] != text:
                    names[number].append(one.type)
    return left, names


def without(text: str, places: Collection[int]) -> str:
    """A text without the paragraphs at some places. The blank lines before a paragraph go with it; of the first that
    stays, too."""
    parts = ["", *BREAKS.split(text)]
    kept = [(parts[2 * n], parts[2 * n + 1]) for n in range(len(parts) // 2) if n not in places]
    return "".join(gap + part for gap, part in kept)[len(kept[0][0]) :] if kept else ""
