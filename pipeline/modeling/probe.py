"""Logits of fixed ids, to check that merging, saving and loading keep a model the same."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from pipeline.modeling.inputs import context_length, evaluating
from pipeline.modeling.parameters import mixture_of

NUM_TOKENS = 64


def probe_ids(model: PreTrainedModel, prompt: int = 0) -> torch.Tensor:
    """Ids from all over the vocabulary in one sequence, (1, tokens). It ends in the end-of-document token, for which
    heads over labels look; neither that nor padding occurs elsewhere. A learned `prompt` has room before it."""
    text = model.config.get_text_config()
    length = min(NUM_TOKENS, (context_length(model) or NUM_TOKENS + prompt) - prompt)
    ids = torch.linspace(0, text.vocab_size - 1, length).long()
    special = [token for token in (text.pad_token_id, text.eos_token_id) if token is not None]
    ordinary = next((token for token in range(text.vocab_size) if token not in special), 0)
    for token in special:
        ids[ids == token] = ordinary
    ids[-1] = ids[-1] if text.eos_token_id is None else text.eos_token_id
    return ids[None]


def probe_logits(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Logits of the ids, (1, tokens, vocabulary) or (1, labels), on the CPU. They are computed without dropout and in
    float32, whatever the weights' precision. The model stays as it is."""
    ids = ids.to(model.device)
    with evaluating(model), _in_float32(model), torch.compiler.set_stance("force_eager"):
        output = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    # A learned prompt stands before the sequence.
    return (output[:, -ids.shape[1] :] if output.dim() == 3 else output).float().cpu()


def difference(model: PreTrainedModel, logits: torch.Tensor, expected: torch.Tensor) -> float:
    """Euclidean distance, relative to the expected logits. Of a mixture of experts it is the median over positions:
    where two experts are nearly as good, the last bit decides which one a token is sent to."""
    if logits.shape != expected.shape:
        return math.inf
    if mixture_of(model.config) is None or logits.dim() < 3:
        return float((logits - expected).norm() / expected.norm().clamp(min=1e-6))
    return float(((logits - expected).norm(dim=-1) / expected.norm(dim=-1).clamp(min=1e-6)).median())


@contextmanager
def _in_float32(model: nn.Module) -> Iterator[None]:
    rounded = [
        (tensor, tensor.dtype)
        for tensor in (*model.parameters(), *model.buffers())
        if tensor.is_floating_point() and tensor.dtype.itemsize == 2
    ]
    try:
        for tensor, _ in rounded:
            tensor.data = tensor.data.float()
        yield
    finally:
        for tensor, dtype in rounded:
            tensor.data = tensor.data.to(dtype)
