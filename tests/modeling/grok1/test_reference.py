"""The forward pass against an independent one in numpy, and against what the details are often mistaken for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from modeling.grok1.reference import Variant, forward
from modeling.grok1.tiny import shaken, token_ids

TOLERANCE = {"logits": 1e-5, "attention": 1e-4, "moe": 1e-4, "router": 1e-4}
"""Absolute; the model computes in float32, where numbers of this size are rounded by some 1e-7. Branch outputs, which
are some hundredths in size, are compared relative to the largest of them."""

WRONG = {
    "exact gelu": Variant(exact_gelu=True),
    "renormalized top-k": Variant(renormalized=True),
    "cap before multiplier": Variant(cap_before_multiplier=True),
    "interleaved rotary": Variant(interleaved_rotary=True),
    "eps 1e-6": Variant(eps=1e-6),
    "key and value heads tiled": Variant(tiled_heads=True),
}


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    """Two rows: one begins with padding, so that its first query sees no key at all; one has id 0 in its middle."""
    ids = token_ids()
    ids[0, :2] = 0
    ids[1, 5] = 0
    return ids


@pytest.fixture(scope="module")
def model():
    return shaken()


@pytest.fixture(scope="module")
def ours(model, ids) -> dict[str, Any]:
    seen: dict[str, Any] = {"attention": [], "moe": []}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: seen[name].append(first(output)))
        for layer in model.model.layers
        for name, module in (("attention", layer.self_attn), ("moe", layer.moe))
    ]
    with torch.no_grad():
        output = model(ids, output_router_logits=True)
    for hook in hooks:
        hook.remove()
    return {"logits": output.logits, "router": [logits.softmax(-1) for logits in output.router_logits], **seen}


def first(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def errors(ours: dict[str, Any], model: Any, ids: torch.Tensor, variant: Variant) -> dict[str, float]:
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    theirs = forward(model.config, weights, ids.numpy(), variant)
    found = {}
    for name, values in theirs.items():
        expected, actual = np.stack(list(values)), np.stack([np.asarray(value) for value in ours[name]])
        scale = np.abs(expected).max() if name in ("attention", "moe") else 1.0
        found[name] = float(np.abs(expected - actual).max() / scale)
    return found


def within(found: dict[str, float]) -> bool:
    return all(found[name] <= TOLERANCE[name] for name in TOLERANCE)


def test_logits_branches_and_router_agree(ours, model, ids):
    found = errors(ours, model, ids, Variant())
    assert within(found), found


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_detail_would_be_noticed(ours, model, ids, name):
    found = errors(ours, model, ids, WRONG[name])
    assert not within(found), found
    if name != "renormalized top-k":  # its factor is the same for the whole branch, and the second norm takes it out
        assert found["logits"] > 10 * TOLERANCE["logits"], found


def test_the_cap_and_the_padding_matter_here(model, ids):
    """Without a cap, or with padding in sight, the logits would be others: the inputs of these tests reach both."""
    with torch.no_grad():
        expected = model(ids).logits
        model.config.mask_pad_tokens = False
        assert (model(ids).logits - expected).abs().max() > 1e-2
        model.config.mask_pad_tokens = True
        model.config.attn_logit_softcapping = 1e6
        assert (model(ids).logits - expected).abs().max() > 1e-3
        model.config.attn_logit_softcapping = 30.0
