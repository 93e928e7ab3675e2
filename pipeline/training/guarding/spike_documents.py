"""Which documents were in the batch of a spike.

The rows of the step's batch are ranked by their loss, in one pass without gradients through the weights of now. It
changes no state. In rows that stand out the document is named whose targets are the worst.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.losses import model_logits
from pipeline.modeling.inputs import evaluating
from pipeline.modeling.sharding import reshard
from pipeline.telemetry.garbage import excerpt_of
from pipeline.telemetry.verdicts import Evidence, Verdict
from pipeline.tokens.labelled_split import LabelledSplit
from pipeline.tokens.packed_split import PackedSplit

if TYPE_CHECKING:
    from pipeline.training.checkpointing.counters import Counters
    from pipeline.training.train_state import TrainState

STANDS_OUT = 1.3
"""Times the median loss of the batch's rows, or of the steps before, whichever is less."""

STAND_OUT = "with a loss that stands out"
NAMED, FEWEST_TARGETS, EXCERPT_TOKENS = 3, 4, 40


@dataclass(frozen=True)
class RowLoss:
    """A row of a batch: its loss, the document in it whose targets have the highest mean loss, and that loss. The first
    token of that document in the row is the stream's `first_token`."""

    loss: float
    window: int
    document: int
    document_loss: float
    first_token: int


def name_spikes(state: TrainState) -> None:
    """Tell the documents of the spikes that were not told yet. All processes call it, after a record."""
    counters, split = state.counters, state.train_split
    pending = [spike for spike in counters.named_spikes if spike.told_at is None]
    if not pending or not isinstance(split, PackedSplit | LabelledSplit):
        return
    usual = median(counters.losses.values) if counters.losses.values else None
    for spike in pending:
        rows = rows_by_loss(state, spike.step)
        spike.told_at = counters.step
        spike.words = f"{spike.of} at step {spike.step:,}: {_in_words(rows, usual, split, state.tokenizer_file)}"
    verdict = verdict_on_spikes(counters)
    if verdict is not None:
        state.log.tell(verdict, counters.step)


def rows_by_loss(state: TrainState, step: int) -> list[RowLoss]:
    """The rows of the batch of step number `step`, of all processes, worst first. All processes call it."""
    split = state.train_split
    assert isinstance(split, PackedSplit | LabelledSplit)
    own: dict[int, RowLoss] = {}
    with evaluating(state.model):
        batches = zip(state.batches[step - 1].micro_batches, state.batches.windows(step - 1), strict=True)
        for micro_batch, windows in batches:
            logits = model_logits(state.model, micro_batch)
            losses = (
                state.task.target_losses(logits, micro_batch, state.config).float().cpu().numpy().astype(np.float64)
            )
            del logits
            for window, row in zip(windows, losses, strict=True):
                own[window] = _row_loss(split, window, np.atleast_1d(row))
    reshard(state.model)
    found = {window: row for rows in state.processes.all_gather(own) for window, row in rows.items()}
    return sorted(found.values(), key=lambda row: row.loss, reverse=True)


def verdict_on_spikes(counters: Counters) -> Verdict | None:
    """What is known of the documents of the spikes so far, as a note; None of none."""
    told = [spike for spike in counters.named_spikes if spike.told_at is not None]
    if not told:
        return None
    words = "; ".join(spike.words for spike in told)
    remedy = "train.on_loss_spike: skip leaves such batches out"
    if any(STAND_OUT in spike.words for spike in told):
        remedy = f"look at the documents that are named; {remedy}"
    source = f"losses of single rows; one stands out from {STANDS_OUT} times the median on (calibrated)"
    return Verdict(
        "data", "documents_of_spikes", "note", Evidence(told[-1].step, words), remedy, source, told[0].told_at
    )


def _row_loss(split: PackedSplit | LabelledSplit, window: int, losses: NDArray[np.float64]) -> RowLoss:
    parts = split.documents_in(window)
    # Of a few tokens at an edge the mean says little.
    long = [part for part in parts if part.targets.stop - part.targets.start >= FEWEST_TARGETS] or parts
    worst = max(long, key=lambda part: losses[part.targets].mean())
    whole = slice(parts[0].targets.start, parts[-1].targets.stop)
    own = float(losses[worst.targets].mean())
    return RowLoss(float(losses[whole].mean()), window, worst.document, own, worst.first_token)


def _in_words(
    rows: Sequence[RowLoss], usual: float | None, split: PackedSplit | LabelledSplit, tokenizer_file: Path | None
) -> str:
    middle = median(row.loss for row in rows)
    yardstick = middle if usual is None else min(middle, usual)
    worst = [row for row in rows if row.loss > STANDS_OUT * yardstick][:NAMED]
    if not worst:
        return f"no row of its batch stands out; their losses are {rows[-1].loss:.4g} to {rows[0].loss:.4g}"
    told = []
    for row in worst:
        text = _excerpt(split, row, tokenizer_file)
        figures = f"loss {row.document_loss:.4g}" + (f', "{text}"' if text else "")
        told.append(f"document {row.document + 1:,} ({figures})")
    rest = f"the median of its {len(rows):,} rows is {middle:.4g}"
    rest += "" if usual is None else f", of the steps before {usual:.4g}"
    return f"{', '.join(told)} {STAND_OUT}; {rest}"


def _excerpt(split: PackedSplit | LabelledSplit, row: RowLoss, tokenizer_file: Path | None) -> str:
    if tokenizer_file is None:
        return ""
    from tokenizers import Tokenizer

    ids = split.stream[row.first_token : row.first_token + EXCERPT_TOKENS].tolist()
    return excerpt_of(Tokenizer.from_file(str(tokenizer_file)).decode(ids))
