from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation.tiny import tiny_model
from tokens.artifacts import packed

from pipeline.evaluation.document_losses import HeldOut, score_documents
from pipeline.evaluation.losses import iterate_losses
from pipeline.evaluation.metrics import Totals

CPU = torch.device("cpu")
DOCUMENTS = [[5, 6, 7, 1], [8, 1], [1], [9, 10, 11, 12, 13, 1], [14, 15, 1]]
TEXTS = [("b", "äb"), ("a", "x"), ("b", ""), ("a", "yz\n"), ("c", "日")]


@pytest.mark.parametrize("stride", [None, 2])
def test_sums_are_of_each_sources_own_tokens(tmp_path: Path, stride) -> None:
    model, split = tiny_model(), packed(tmp_path, DOCUMENTS, block_size=4)
    seen: list[int] = []
    totals = score_documents(model, split, HeldOut.read(TEXTS), 2, CPU, stride=stride, on_tokens=seen.append)

    batches = list(iterate_losses(model, split, 3, CPU, stride=stride))
    nll = [math.log(50), *np.concatenate([part[0] for part in batches]).tolist()]
    correct = [False, *np.concatenate([part[1] for part in batches]).tolist()]
    owner = [source for (source, _), document in zip(TEXTS, DOCUMENTS, strict=True) for _ in document]
    parts = {source: Totals.from_row(rows.sum(0)) for source, rows in totals.of_sources()}
    assert list(parts) == ["b", "a", "c"]
    assert totals.rows[:, 1].tolist() == [len(document) for document in DOCUMENTS]
    for source, part in parts.items():
        # Float32 losses of windows in other batches.
        assert part.nll == pytest.approx(sum(x for x, o in zip(nll, owner, strict=True) if o == source), abs=1e-4)
        assert part.correct == sum(x for x, o in zip(correct, owner, strict=True) if o == source)
        assert part.tokens == owner.count(source)
    assert {source: (part.bytes, part.documents) for source, part in parts.items()} == {
        "b": (3, 2),
        "a": (4, 2),
        "c": (3, 1),
    }
    assert sum(seen) == split.target_tokens
    assert sum(part.tokens for part in parts.values()) == split.num_tokens


def test_other_documents_than_the_streams_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        score_documents(tiny_model(), packed(tmp_path, DOCUMENTS, 4), HeldOut.read(TEXTS[1:]), 2, CPU)


@pytest.mark.parametrize("block_size", [1, 3, 16, 300])
def test_the_batch_size_changes_no_figure(tmp_path: Path, block_size: int) -> None:
    """To the bit. In windows of 1 and 3 batches of those sizes gave losses that differed by 1e-8."""
    draw = np.random.default_rng(0)
    documents = [[*draw.integers(5, 50, 12).tolist(), 1] for _ in range(25)]
    model, split = tiny_model(max_position_embeddings=300), packed(tmp_path, documents, block_size)
    heldout = HeldOut.read([("a", "text")] * 25)
    one, *others = (score_documents(model, split, heldout, size, CPU).rows.tolist() for size in (1, 3, 8))
    assert others == [one, one]


def test_windows_that_are_computed_together_cost_what_each_costs_alone(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    documents = [[*draw.integers(5, 50, 12).tolist(), 1] for _ in range(25)]
    model, split = tiny_model(), packed(tmp_path, documents, block_size=16)
    rows = score_documents(model, split, HeldOut.read([("a", "text")] * 25), 8, CPU).rows
    stream = torch.tensor([token for document in documents for token in document])
    nats = math.log(50)
    for start in range(0, len(stream) - 1, 16):
        ids = stream[start : start + 17]
        with torch.no_grad():
            logits = model.double()(input_ids=ids[None, :-1]).logits[0]
        nats += torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum").item()
    assert rows[:, 0].sum() == pytest.approx(nats, rel=1e-6)  # float32's rounding
