"""The router's losses: values, additivity, and when they count."""

from __future__ import annotations

import pytest
import torch
from modeling.grok1.tiny import initialized, token_ids
from torch.nn import functional

from pipeline.modeling.grok1.router_losses import router_loss_sums

EXPERTS, TOP_K = 4, 2


def logits_and_mask(batch=6, length=10):
    generator = torch.Generator().manual_seed(3)
    layers = tuple(torch.randn(batch * length, EXPERTS, generator=generator) for _ in range(3))
    return layers, (torch.rand(batch, length, generator=generator) > 0.3).long()


def test_values_are_those_of_the_formulas():
    layers, mask = logits_and_mask()
    balance_sum, z_sum = router_loss_sums(layers, mask, EXPERTS, TOP_K)
    expected_balance = expected_z = 0.0
    for layer in layers:
        for row, counts in zip(layer.view(6, 10, EXPERTS), mask, strict=True):
            tokens = row[counts == 1]
            chosen = functional.one_hot(tokens.topk(TOP_K).indices, EXPERTS).sum((0, 1))
            share, probability = chosen / (TOP_K * len(tokens)), tokens.softmax(-1).mean(0)
            expected_balance += len(tokens) * EXPERTS * float((share * probability).sum()) / 3
            expected_z += float(tokens.logsumexp(-1).square().sum()) / 3
    assert float(balance_sum) == pytest.approx(expected_balance, rel=1e-5)
    assert float(z_sum) == pytest.approx(expected_z, rel=1e-5)


def test_uniform_routing_has_a_balance_loss_of_1_and_collapse_one_of_the_number_of_experts():
    uniform = 1e-3 * torch.eye(EXPERTS).repeat(5, 1)
    mask = torch.ones(1, 20)
    assert float(router_loss_sums((uniform,), mask, EXPERTS, 1)[0]) / 20 == pytest.approx(1, rel=1e-5)
    collapsed = torch.tensor([[30.0, 0, 0, 0]]).expand(20, -1)
    assert float(router_loss_sums((collapsed,), mask, EXPERTS, 1)[0]) / 20 == pytest.approx(EXPERTS, rel=1e-5)


@pytest.mark.parametrize("part", [1, 2, 3])
def test_sums_add_up_over_any_split(part):
    layers, mask = logits_and_mask()
    whole = router_loss_sums(layers, mask, EXPERTS, TOP_K)
    total = torch.zeros(2)
    for at in range(0, 6, part):
        rows = tuple(layer.view(6, 10, EXPERTS)[at : at + part].flatten(0, 1) for layer in layers)
        total += torch.stack(router_loss_sums(rows, mask[at : at + part], EXPERTS, TOP_K))
    torch.testing.assert_close(total, torch.stack(whole), rtol=1e-6, atol=0)


def test_padding_does_not_count():
    layers, _ = logits_and_mask(batch=1)
    mask = torch.tensor([[1] * 7 + [0] * 3])
    cut = router_loss_sums(tuple(layer[:7] for layer in layers), torch.ones(1, 7), EXPERTS, TOP_K)
    torch.testing.assert_close(router_loss_sums(layers, mask, EXPERTS, TOP_K), cut)
    nothing = router_loss_sums(layers, torch.zeros(1, 10), EXPERTS, TOP_K)
    assert [float(value) for value in nothing] == [0.0, 0.0]


def test_the_model_adds_them_in_training_only():
    model, ids = initialized(router_aux_loss_coef=0.5, router_z_loss_coef=0.25), token_ids()
    plain = model(ids, labels=ids)
    assert plain.aux_loss is None
    assert plain.router_logits is None
    expected = functional.cross_entropy(plain.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(plain.loss, expected)
    model.train()
    trained = model(ids, labels=ids)
    layers = model(ids, output_router_logits=True).router_logits
    counts = torch.ones_like(ids)
    counts[:, -1] = 0  # the last token is followed by no target
    balance, z = router_loss_sums(layers, counts, EXPERTS, TOP_K)
    aux_loss = (0.5 * balance + 0.25 * z) / counts.sum()
    torch.testing.assert_close(trained.aux_loss, aux_loss)
    torch.testing.assert_close(trained.loss, expected + aux_loss)
    model.config.router_aux_loss_coef = model.config.router_z_loss_coef = 0.0
    assert model(ids, labels=ids).aux_loss is None
