"""Losses of held-out documents, by source."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.distributed.collectives import ALONE, Collectives
from pipeline.evaluation.losses import iterate_losses
from pipeline.evaluation.metrics import Totals
from pipeline.tokens.packed_split import PackedSplit


@dataclass(frozen=True)
class HeldOut:
    """Sources and sizes of the documents of a split, in the order of their stream."""

    sources: list[str]
    source_of: NDArray[np.int32]
    """For each document the position of its source in `sources`, (documents,)."""
    bytes_of: NDArray[np.int64]
    """UTF-8 bytes of each source's documents, (sources,)."""

    @classmethod
    def read(cls, documents: Iterable[tuple[str, str]]) -> HeldOut:
        """From (source, text) pairs."""
        positions: dict[str, int] = {}
        source_of: list[int] = []
        bytes_of: list[int] = []
        for source, text in documents:
            position = positions.setdefault(source, len(positions))
            if position == len(bytes_of):
                bytes_of.append(0)
            bytes_of[position] += len(text.encode())
            source_of.append(position)
        return cls(list(positions), np.array(source_of, dtype=np.int32), np.array(bytes_of, dtype=np.int64))


def score_documents(
    model: nn.Module,
    split: PackedSplit,
    heldout: HeldOut,
    batch_size: int,
    device: torch.device,
    *,
    bits_a_document: int = 0,
    stride: int | None = None,
    on_tokens: Callable[[int], None] = lambda tokens: None,
    processes: Collectives = ALONE,
) -> dict[str, Totals]:
    """Sums of losses for each source, over the tokens of its documents and their end-of-document tokens.

    What the tokenizer puts before every text, such as `<s>`, is context and not counted. Where there is no such token,
    the first of the stream has no context: it is charged log2(vocab_size) bits, as one of so many equally likely, and
    counts as not predicted. A document's context may reach into the one before it, as in training. `bits_a_document`
    are charged for what tokens do not store. `on_tokens` is told how many tokens were just scored. Processes share out
    the work; each gets all sums.
    """
    assert len(split.document_ends) == len(heldout.source_of), "the stream is of other documents"
    num_sources = len(heldout.sources)
    nll = np.zeros(num_sources)
    correct = np.zeros(num_sources)
    tokens = np.zeros(num_sources, dtype=np.int64)
    num_prefix = len(split.prefix_token_ids)
    starts = np.concatenate([[0], split.document_ends[:-1].astype(np.int64)])
    if num_prefix == 0:
        nll[heldout.source_of[0]] += math.log(split.vocab_size)
        tokens[heldout.source_of[0]] += 1
    position = 1
    for token_nll, token_correct in iterate_losses(
        model, split, batch_size, device, stride=stride, processes=processes
    ):
        targets = np.arange(position, position + len(token_nll), dtype=np.uint64)
        document = np.searchsorted(split.document_ends, targets, side="right")
        counts = targets.astype(np.int64) - starts[document] >= num_prefix
        source = heldout.source_of[document[counts]]
        nll += np.bincount(source, weights=token_nll[counts], minlength=num_sources)
        correct += np.bincount(source, weights=token_correct[counts], minlength=num_sources)
        tokens += np.bincount(source, minlength=num_sources)
        position += len(token_nll)
        on_tokens(len(token_nll))
    assert position == split.num_tokens
    documents = np.bincount(heldout.source_of, minlength=num_sources)
    return {
        name: Totals(
            nll=float(nll[i]),
            tokens=int(tokens[i]),
            correct=int(correct[i]),
            bytes=int(heldout.bytes_of[i]),
            documents=int(documents[i]),
            charged_bits=bits_a_document * int(documents[i]),
        )
        for i, name in enumerate(heldout.sources)
    }
