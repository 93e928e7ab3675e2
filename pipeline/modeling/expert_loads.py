"""Losses and loads of the routers of any mixture of experts whose forward pass gives its router logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedConfig

from pipeline.modeling.grok1.router_losses import router_loss_sums as router_loss_sums
from pipeline.modeling.parameters import mixture_of


def balanced_mixture(config: PreTrainedConfig) -> tuple[int, int] | None:
    """Experts and experts a token of a mixture that is balanced by a loss on its router; None for other models.

    Mixtures without `router_aux_loss_coef`, such as deepseek_v3, are balanced in other ways: their routers' scores are
    no softmax, and the losses here would not fit them.
    """
    return mixture_of(config) if hasattr(config.get_text_config(), "router_aux_loss_coef") else None


@torch.no_grad()
def expert_load_sums(
    router_logits: Sequence[torch.Tensor], mask: torch.Tensor, num_experts: int, top_k: int
) -> torch.Tensor:
    """[num_experts]: the tokens in `mask` [batch, length] that each expert gets, in parts of `top_k` and as a mean over
    layers. They add up over batches, and over experts to the sum of `mask`."""
    counts = mask.flatten().to(torch.float32)
    load = counts.new_zeros(num_experts)
    for layer in router_logits:
        chosen = layer.reshape(-1, num_experts).topk(top_k, dim=-1).indices.to(mask.device)
        load = load + torch.zeros_like(
            layer.reshape(-1, num_experts), dtype=torch.float32, device=mask.device
        ).scatter_(-1, chosen, counts[:, None].expand(-1, top_k).contiguous()).sum(0)
    return load / (top_k * len(router_logits))
