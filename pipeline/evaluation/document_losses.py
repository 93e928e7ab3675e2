"""Losses of held-out documents."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.distributed.collectives import ALONE, Collectives
from pipeline.evaluation.losses import TokenFigures, iterate_losses
from pipeline.evaluation.token_records import TokenRecords
from pipeline.tokens.packed_split import PackedSplit


@dataclass(frozen=True)
class HeldOut:
    """Sources and sizes of the documents of a split, in the order of their stream."""

    sources: list[str]
    source_of: NDArray[np.int32]
    """For each document the position of its source in `sources`, (documents,)."""
    bytes_of: NDArray[np.int64]
    """UTF-8 bytes of each document, (documents,)."""

    @classmethod
    def read(cls, documents: Iterable[tuple[str, str]]) -> HeldOut:
        """From (source, text) pairs."""
        positions: dict[str, int] = {}
        source_of: list[int] = []
        bytes_of: list[int] = []
        for source, text in documents:
            source_of.append(positions.setdefault(source, len(positions)))
            bytes_of.append(len(text.encode()))
        return cls(list(positions), np.array(source_of, dtype=np.int32), np.array(bytes_of, dtype=np.int64))


@dataclass(frozen=True)
class DocumentTotals:
    """Totals of each document of a split, in the order of its stream."""

    heldout: HeldOut
    rows: NDArray[np.float64]
    """The fields of `Totals`, in their order, (documents, fields)."""

    def of_sources(self) -> Iterator[tuple[str, NDArray[np.float64]]]:
        """The name of each source and the rows of its documents."""
        for position, name in enumerate(self.heldout.sources):
            yield name, self.rows[self.heldout.source_of == position]


def score_documents(
    model: nn.Module,
    split: PackedSplit,
    heldout: HeldOut,
    batch_size: int,
    device: torch.device,
    *,
    bits_a_document: int = 0,
    stride: int | None = None,
    records: TokenRecords | None = None,
    on_tokens: Callable[[int], None] = lambda tokens: None,
    processes: Collectives = ALONE,
) -> DocumentTotals:
    """Sums of losses for each document, over its tokens and its end-of-document token.

    What the tokenizer puts before every text, such as `<s>`, is context and not counted. Where there is no such token,
    the first of the stream has no context: it is charged log2(vocab_size) bits, as one of so many equally likely, and
    counts as not predicted. A document's context may reach into the one before it, as in training. `bits_a_document`
    are charged for what tokens do not store. Tokens that count are added to `records`, but for that first one.
    `on_tokens` is told how many were just scored. Processes share out the work; each gets all sums.
    """
    assert len(split.document_ends) == len(heldout.source_of), "the stream is of other documents"
    documents = len(heldout.source_of)
    nll = np.zeros(documents)
    correct, in_top_5 = np.zeros(documents), np.zeros(documents)
    tokens = np.zeros(documents)
    num_prefix = len(split.prefix_token_ids)
    starts = np.concatenate([[0], split.document_ends[:-1].astype(np.int64)])
    if num_prefix == 0:
        nll[0] += math.log(split.vocab_size)
        tokens[0] += 1
    position = 1
    for found in iterate_losses(model, split, batch_size, device, stride=stride, processes=processes):
        num_targets = len(found.nll)
        targets = np.arange(position, position + num_targets, dtype=np.uint64)
        document = np.searchsorted(split.document_ends, targets, side="right")
        counts = targets.astype(np.int64) - starts[document] >= num_prefix
        counted = TokenFigures(*(values[counts] for values in found))
        np.add.at(nll, document[counts], counted.nll)
        np.add.at(correct, document[counts], counted.is_likeliest)
        np.add.at(in_top_5, document[counts], counted.is_in_top_5)
        np.add.at(tokens, document[counts], 1)
        if records is not None:
            records.add(split.stream[position : position + num_targets][counts], counted)
        position += num_targets
        on_tokens(num_targets)
    assert position == split.num_tokens
    ones = np.ones(documents)
    charged = bits_a_document * ones
    return DocumentTotals(heldout, np.column_stack([nll, tokens, correct, heldout.bytes_of, ones, charged, in_top_5]))
