"""What a model can be given: its longest input, and forward passes without transformers' checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, masking_utils

from pipeline.errors import ConfigError


def context_length(model: PreTrainedModel) -> int | None:
    """Most tokens that a sequence may have; None where the architecture sets no limit."""
    positions: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not positions or positions < 0:
        return None
    for name, module in model.named_modules():
        is_table = isinstance(module, nn.Embedding) and name.endswith("position_embeddings")
        if is_table and module.num_embeddings == positions and module.padding_idx is not None:
            # RoBERTa and its kin count positions from behind that of padding.
            return positions - module.padding_idx - 1
    return positions


def check_context(block_size: int, context: int | None) -> None:
    """Raises ConfigError when sequences are longer than the model's positions."""
    if context is not None and block_size > context:
        raise ConfigError(
            f"pack.block_size {block_size} is more than the model's {context} positions; lower it, or raise "
            "max_position_embeddings (n_positions in gpt2) in model.config"
        )


def model_inputs(batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What a forward pass is given of a batch: all but its labels, and the wish for no cache."""
    return {name: tensor for name, tensor in batch.items() if name != "labels"} | {"use_cache": False}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module's own training flag is as it was.

    Under `no_grad` rather than `inference_mode`, whose tensors compiled and distributed models cannot always take.
    """
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Put another value in the place of an attribute of a library's, while the block runs."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def trusted_inputs() -> Iterator[None]:
    """Promise that each row holds one sequence, padded at most on its right where no label is, while the block runs.

    transformers otherwise looks in every forward pass whether a row packs several sequences, and some architectures
    whether it is padded. Each look copies a value from the device, and so waits for all the work queued on it.
    """
    with (
        replaced(masking_utils, "find_packed_sequence_indices", _nothing),
        replaced(PreTrainedModel, "warn_if_padding_and_no_attention_mask", _nothing),
    ):
        yield


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None
