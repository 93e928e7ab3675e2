"""What is told of tokens, against loops over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation.tiny import tiny_model
from tokens.artifacts import packed

from pipeline.corpus.documents import Document
from pipeline.evaluation import losses
from pipeline.evaluation.document_losses import HeldOut, score_documents
from pipeline.evaluation.token_records import TokenRecords, calibration_of, frequency_groups
from pipeline.evaluation.worst_documents import worst_documents

BLOCK = 6
DRAW = np.random.default_rng(3)
DOCUMENTS = [[*DRAW.integers(5, 30, 7).tolist(), 1] for _ in range(25)]
COUNTS = DRAW.integers(0, 9, 50)


def naive(model: torch.nn.Module, stream: list[int]) -> list[tuple[int, float, bool, float, bool, int]]:
    """Of each target: id, loss, whether among the five likeliest, largest probability, whether right, context."""
    found = []
    for position in range(1, len(stream)):
        start = (position - 1) // BLOCK * BLOCK
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([stream[start:position]])).logits[0, -1].double().log_softmax(-1)
        likeliest = scores.argsort(descending=True).tolist()
        token = stream[position]
        top = scores.max().exp().item()
        found.append(
            (token, -scores[token].item(), token in likeliest[:5], top, token == likeliest[0], position - start)
        )
    return found


@pytest.mark.parametrize("batch_size", [1, 4])
def test_records_are_sums_over_the_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int) -> None:
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", 3 * 50)
    model, split = tiny_model(), packed(tmp_path, DOCUMENTS, BLOCK)
    records = TokenRecords(COUNTS)
    heldout = HeldOut.read([("a", "text")] * len(DOCUMENTS))
    rows = score_documents(model, split, heldout, batch_size, torch.device("cpu"), records=records).rows
    told = records.as_json()

    tokens = naive(model, split.stream[:].tolist())
    assert rows[:, -1].sum() == sum(one[2] for one in tokens)
    assert 0 < rows[:, 2].sum() < rows[:, -1].sum() < len(tokens)
    for one in told["by_position"]:
        chosen = [nll for _, nll, _, _, _, context in tokens if one["from"] <= context <= one["to"]]
        assert (one["tokens"], one["loss"]) == (len(chosen), pytest.approx(np.mean(chosen), rel=1e-5))
    assert [(one["from"], one["to"]) for one in told["by_position"]] == [(1, 1), (2, 3), (4, BLOCK)]
    groups = frequency_groups(COUNTS)
    for one in told["by_frequency"]:
        chosen = [nll for token, nll, *_ in tokens if groups[token] == one["group"]]
        assert (one["tokens"], one["loss"]) == (len(chosen), pytest.approx(np.mean(chosen), rel=1e-5))
        assert one["kinds"] == (groups == one["group"]).sum()
    assert sum(one["tokens"] for one in told["by_frequency"]) == len(tokens)
    error = 0.0
    for low in range(15):
        chosen = [(sure, right) for *_, sure, right, _ in tokens if low <= 15 * sure < low + 1]
        error += abs(sum(sure - right for sure, right in chosen)) / len(tokens)
    assert told["calibration"]["error"] == pytest.approx(error, rel=1e-4)
    assert sum(one["predictions"] for one in told["calibration"]["bins"]) == len(tokens)


def test_groups_share_out_the_training_stream() -> None:
    counts = np.array([0, 50, 0, 30, 10, 5, 3, 1, 1])
    assert frequency_groups(counts).tolist() == [10, 0, 10, 5, 8, 9, 9, 9, 9]
    assert frequency_groups(np.zeros(3, dtype=int)).tolist() == [10, 10, 10]


def test_the_calibration_error_by_hand() -> None:
    sure = np.array([0.95, 0.95, 0.95, 0.95, 0.6, 1.0])
    right = np.array([True, True, True, False, False, True])
    # The five above 14/15 were 0.96 sure and 0.8 right, the other one 0.6 sure and not right.
    found = calibration_of(sure, right)
    assert found["error"] == pytest.approx((5 * 0.16 + 0.6) / 6)
    assert [one["predictions"] for one in found["bins"]] == [1, 5]
    assert calibration_of(np.zeros(0), np.zeros(0, dtype=bool)) == {"error": None, "bins": []}


def test_the_worst_documents_are_named() -> None:
    documents = [Document(str(n), f"{n} " * 150, "s", f"f#{n}") for n in range(14)]
    figures = np.array([3.0, 9, 1, 4, 4, 8, 0, 7, 6, 5, 2, 3, 3, 11])
    found = worst_documents(iter(documents), figures, "bits_per_byte")
    assert [one["id"] for one in found] == ["13", "1", "5", "7", "8", "9", "3", "4", "0", "11"]
    assert found[1] == {
        "bits_per_byte": 9.0,
        "id": "1",
        "source": "s",
        "origin": "f#1",
        "bytes": 300,
        "text": "1 " * 100,
    }
