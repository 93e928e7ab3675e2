"""Losses of a mixture's router as sums over tokens. Needs torch only: this file travels with exported models."""

from collections.abc import Sequence

import torch


def router_loss_sums(
    router_logits: Sequence[torch.Tensor], mask: torch.Tensor, num_experts: int, top_k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Load-balancing loss and z-loss of the tokens in `mask`, each as the sum over tokens of its mean over layers.

    `router_logits` has one tensor a layer, of `batch * length` rows and `num_experts` columns in any shape; `mask`
    [batch, length] is nonzero where a token counts. Divided by the number of tokens that count, the sums are means.
    Fractions in `mask` let a token count in part; those of a sequence then add up to 1 or more.

    The balance loss is taken within each sequence (DeepSeek-V3, arXiv 2412.19437, equations 17 to 20, with softmax
    affinities): for a sequence of T tokens, `num_experts * sum_i f_i P_i`, where f_i is the share of the T * top_k
    choices that went to expert i and P_i its mean probability. It is 1 under uniform routing and at most `num_experts`.
    Each sequence weighs by its tokens. So both sums add up over any split of a batch into parts, which the usual
    loss over a whole batch (Switch Transformers, arXiv 2101.03961, equations 4 to 6) does not.

    The z-loss of a token is logsumexp(logits)^2 (ST-MoE, arXiv 2202.08906, equation 5).
    """
    batch, length = mask.shape
    counts = mask.to(torch.float32)
    tokens = counts.sum(1, keepdim=True).clamp_min(1.0)
    balance = z = counts.new_zeros(())
    for layer in router_logits:
        logits = layer.reshape(batch, length, num_experts)
        logits = logits.to(device=mask.device, dtype=torch.promote_types(logits.dtype, torch.float32))
        chosen = torch.zeros_like(logits).scatter_(-1, logits.detach().topk(top_k, dim=-1).indices, 1.0)
        share = (chosen * counts[..., None]).sum(1) / (tokens * top_k)
        probability = (logits.softmax(-1) * counts[..., None]).sum(1) / tokens
        balance = balance + (num_experts * (share * probability).sum(-1) * tokens[:, 0]).sum()
        z = z + (torch.logsumexp(logits, -1).square() * counts).sum()
    return balance / len(router_logits), z / len(router_logits)


__all__ = ["router_loss_sums"]
