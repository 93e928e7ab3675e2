from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation.tiny import tiny_model
from tokens.artifacts import packed
from torch.nn import functional as F

from pipeline.evaluation import losses
from pipeline.evaluation.losses import (
    TokenSums,
    iterate_losses,
    model_logits,
    shared_batches,
    spread_sums,
    standard_error,
    strided_spans,
    token_losses,
    token_sums,
)
from pipeline.modeling.inputs import evaluating
from pipeline.tokens.packed_split import PackedSplit

CPU = torch.device("cpu")
BLOCK = 6
VOCABULARY = 8
# Float32 sums in another order: a few hundred terms of about 4 nats with 24 bits each.
TOLERANCE = 1e-4


def sum_losses(model, split, batch_size: int, device: torch.device, **given) -> torch.Tensor:
    found = []
    with evaluating(model):
        for batch, counts in shared_batches(split, batch_size, device, **given):
            found.append(token_sums(model_logits(model, batch), batch["labels"]) * counts)
    return torch.stack(found).sum(0)


@pytest.fixture(scope="module")
def model():
    return tiny_model(VOCABULARY)


@pytest.fixture
def split(tmp_path: Path) -> PackedSplit:
    ids = np.random.default_rng(0).integers(2, VOCABULARY, 40).tolist()
    return packed(tmp_path, [[*ids[:13], 1], [*ids[13:14], 1], [*ids[14:], 1]], BLOCK, VOCABULARY)


def naive_losses(model, stream, stride: int) -> tuple[list[float], list[bool]]:
    """One forward pass for each token, on the context that its window gives it."""
    nll, correct = [], []
    for target in range(1, len(stream)):
        start = next(s for s in range(0, len(stream), stride) if s + BLOCK >= target)
        context = torch.tensor(stream[start:target].astype(np.int64))[None]
        with torch.no_grad():
            log_probabilities = model(input_ids=context).logits[0, -1].double().log_softmax(-1)
        nll.append(-log_probabilities[stream[target]].item())
        correct.append(int(log_probabilities.argmax()) == stream[target])
    return nll, correct


@pytest.mark.parametrize("stride", [None, 1, 2, 4, 5, BLOCK])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_strided_losses_are_those_of_one_token_at_a_time(model, split, stride, batch_size: int) -> None:
    parts = list(iterate_losses(model, split, batch_size, CPU, stride=stride))
    nll, correct = naive_losses(model, split.stream[:], stride or BLOCK)
    assert np.concatenate([part[0] for part in parts]).tolist() == pytest.approx(nll, abs=TOLERANCE)
    assert np.concatenate([part[1] for part in parts]).tolist() == correct
    assert 0 < sum(correct) < len(correct)


def test_more_context_changes_losses(model, split) -> None:
    short = np.concatenate([part.nll for part in iterate_losses(model, split, 4, CPU)])
    long = np.concatenate([part.nll for part in iterate_losses(model, split, 4, CPU, stride=1)])
    assert short[:BLOCK] == pytest.approx(long[:BLOCK], abs=TOLERANCE)
    assert abs(short - long).max() > 0.1


@pytest.mark.parametrize("num_tokens", range(2, 20))
@pytest.mark.parametrize("stride", [1, 3, 4])
def test_spans_score_every_target_once(num_tokens: int, stride: int) -> None:
    scored: list[int] = []
    for start, first in strided_spans(num_tokens, 4, stride):
        assert start < first <= start + 4
        scored += range(first, min(start + 5, num_tokens))
    assert scored == list(range(1, num_tokens))


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_sums_are_those_of_all_tokens(model, split, batch_size: int) -> None:
    nll, correct = naive_losses(model, split.stream[:], BLOCK)
    sums = TokenSums.from_tensor(sum_losses(model, split, batch_size, CPU))
    assert sums.nll == pytest.approx(sum(nll), abs=TOLERANCE * len(nll))
    assert (sums.tokens, sums.correct) == (len(nll), sum(correct))
    assert sums.loss == pytest.approx(sum(nll) / len(nll), abs=TOLERANCE)


def test_the_error_of_a_mean_is_that_of_rows_drawn_anew() -> None:
    """Rows of different numbers of targets, whose losses are alike within a row; the right value is the spread of the
    mean over many draws of rows."""
    draw = np.random.default_rng(0)
    counts = draw.integers(1, 7, size=200)
    losses = np.where(np.arange(6) < counts[:, None], draw.normal(3, 1, (200, 1)) + draw.normal(0, 0.3, (200, 6)), 0)
    labels = np.where(np.arange(6) < counts[:, None], 1, -100)
    spread = spread_sums(torch.tensor(losses), torch.tensor(labels) != -100).tolist()
    drawn = draw.integers(0, 200, size=(4000, 200))
    means = losses.sum(1)[drawn].sum(1) / counts[drawn].sum(1)
    assert standard_error(losses.sum(), counts.sum(), spread) == pytest.approx(means.std(), rel=0.05)


@pytest.mark.parametrize("dp_world_size", [2, 3, 5])
@pytest.mark.parametrize("max_batches", [None, 2])
def test_processes_share_the_batches(model, split, dp_world_size: int, max_batches) -> None:
    whole = sum_losses(model, split, 2, CPU, max_batches=max_batches)
    calls = []
    hook = model.register_forward_hook(lambda *_: calls[-1].append(1))
    parts = []
    for process in range(dp_world_size):
        calls.append([])
        parts.append(
            sum_losses(model, split, 2, CPU, max_batches=max_batches, dp_rank=process, dp_world_size=dp_world_size)
        )
    hook.remove()
    assert torch.stack(parts).sum(0).tolist() == pytest.approx(whole.tolist(), rel=1e-12)
    assert len({len(of_process) for of_process in calls}) == 1


def test_at_most_so_many_batches(model, split) -> None:
    assert TokenSums.from_tensor(sum_losses(model, split, 2, CPU, max_batches=1)).tokens == 2 * BLOCK


def test_logits_are_cast_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(3, 5, 50, dtype=torch.bfloat16)
    labels = torch.randint(50, (3, 5))
    labels[1, 3:] = -100
    seen = []
    cross_entropy = F.cross_entropy
    monkeypatch.setattr(
        F, "cross_entropy", lambda x, *rest, **named: seen.append(x) or cross_entropy(x, *rest, **named)
    )
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", 4 * 50 + 7)
    nll, correct = token_losses(logits, labels)
    assert [tuple(part.shape) for part in seen] == [(4, 50), (4, 50), (4, 50), (3, 50)]
    assert {part.dtype for part in seen} == {torch.float32}
    expected = -logits.double().log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    real = labels != -100
    assert nll[real].tolist() == pytest.approx(expected[real].tolist(), abs=1e-5)
    assert (nll[~real] == 0).all()
    assert not correct[~real].any()
    assert (correct == (logits.argmax(-1) == labels)).all()


def test_every_module_gets_its_own_training_flag_back(split) -> None:
    model = tiny_model(VOCABULARY).train()
    frozen = model.model.layers[0].self_attn.eval()
    flags = [module.training for module in model.modules()]
    sum_losses(model, split, 4, CPU)
    assert [module.training for module in model.modules()] == flags
    with evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
    model.lm_head.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sum_losses(model, split, 4, CPU)
    assert [module.training for module in model.modules()] == flags
    assert not frozen.training
    assert torch.is_grad_enabled()


def test_dropout_is_off_while_evaluating(split) -> None:
    model = tiny_model(VOCABULARY).train()
    assert sum_losses(model, split, 4, CPU).tolist() == sum_losses(model, split, 4, CPU).tolist()
