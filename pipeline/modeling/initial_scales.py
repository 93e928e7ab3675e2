"""The scale of activations and gradients through the blocks of a model, before any training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel

from pipeline.modeling.heads import has_head_over_labels
from pipeline.modeling.inputs import context_length
from pipeline.modeling.layer_names import is_block, layer_of
from pipeline.modeling.module_hooks import record_modules
from pipeline.modeling.parameters import blocks

LARGEST_PARAMETERS = 1_000_000_000
"""Above it the two passes would take minutes on a CPU."""

SEQUENCES, TOKENS = 2, 64

MeanLoss = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, float | None]]
"""(logits, ids (B, T)) -> (mean loss, loss of a uniform guess or None)."""


def measure_scales(model: PreTrainedModel, seed: int, mean_loss: MeanLoss) -> dict[str, Any]:
    """One forward and backward pass over random ids, without dropout; weights and gradients are left as they were.

    Returns `{"loss", "uniform_loss", "layers": {block: {"activation_rms", "grad_norm"}}}`: the root mean square of
    each block's output, and the Euclidean norm of the gradient of its parameters under `mean_loss`. `uniform_loss` is
    that of guessing.
    """
    text = model.config.get_text_config()
    length = min(TOKENS, context_length(model) or TOKENS)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(text.vocab_size, (SEQUENCES, length), generator=generator).to(model.device)
    if has_head_over_labels(model.config):
        # One end in each sequence, where training has it: some heads look for it.
        ids = torch.where(ids == text.eos_token_id, text.pad_token_id, ids)
        ids[:, -1] = text.eos_token_id
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    uniform: float | None = None

    def loss_of() -> torch.Tensor:
        nonlocal uniform
        loss, uniform = mean_loss(model(input_ids=ids, use_cache=False).logits.float(), ids)
        return loss

    found = record_modules(model, blocks(model), loss_of, [*named.values()])
    norms: dict[str, float] = {}
    for name, gradient in zip(named, found.parameter_gradients, strict=True):
        layer = layer_of(name, model.base_model_prefix)
        if is_block(layer) and gradient is not None:
            norms[layer] = norms.get(layer, 0.0) + float(gradient.float().norm()) ** 2
    return {
        "loss": float(found.loss),
        "uniform_loss": uniform,
        "layers": {
            name: {"activation_rms": float(figures.rms), "grad_norm": math.sqrt(norms.get(name, 0.0))}
            for name, figures in found.modules.items()
        },
    }
