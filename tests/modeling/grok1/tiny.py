"""A tiny Grok-1 for tests, with weights far from any initialization, so that every detail of the forward pass shows."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.modeling.grok1 import Grok1Config, Grok1ForCausalLM

SIZES: dict[str, Any] = {
    "vocab_size": 48,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_local_experts": 4,
    "widening_factor": 2.0,
    "max_position_embeddings": 64,
}


def tiny_config(**changes: Any) -> Grok1Config:
    return Grok1Config(**{**SIZES, **changes})


def initialized(model_class: Any = Grok1ForCausalLM, seed: int = 0, **changes: Any) -> Any:
    """A model as it is initialized, in evaluation mode."""
    torch.manual_seed(seed)
    return model_class(tiny_config(**changes)).eval()


def shaken(seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Grok1ForCausalLM:
    """A model with attention scores that reach the cap, decided routers, branch outputs small enough for the norms'
    eps to matter, and norm scales other than 1."""
    model = initialized(seed=seed, **changes).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            fan_in = parameter.shape[-1] ** -0.5
            if "norm" in name:
                values = 1 + 0.3 * noise
            elif "q_proj" in name or "k_proj" in name:
                values = 3 * fan_in * noise
            elif "o_proj" in name or "down_proj" in name:
                values = 0.03 * fan_in * noise
            elif "embed" in name:
                values = 0.1 * noise
            else:
                values = fan_in * noise
            parameter.copy_(values)
    return model


def token_ids(batch: int = 2, length: int = 12, seed: int = 1, vocab_size: int = SIZES["vocab_size"]) -> torch.Tensor:
    """Random ids without padding."""
    return torch.randint(1, vocab_size, (batch, length), generator=torch.Generator().manual_seed(seed))
