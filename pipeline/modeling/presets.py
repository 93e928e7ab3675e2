"""Named models: an architecture and the values of its configuration, which `model.config` may override."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

PresetName = Literal["grok1-tiny", "grok1-314b", "llama-125m", "gpt2-124m", "mixtral-tiny"]


@dataclass(frozen=True)
class Preset:
    """One named model; its vocabulary comes from the tokenizer."""

    architecture: str
    config: dict[str, Any]


PRESETS: dict[PresetName, Preset] = {
    # Grok-1's block, small enough for two cores: 5.9 million parameters with 4,096 tokens.
    "grok1-tiny": Preset(
        "grok1",
        {
            "hidden_size": 192,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "widening_factor": 2,
            "max_position_embeddings": 256,
            # So few layers learn faster from small embeddings.
            "embedding_init_scale": 1,
        },
    ),
    # The release of March 2024: 315,684,820,992 parameters with its own 131,072 tokens.
    "grok1-314b": Preset(
        "grok1",
        {
            "hidden_size": 6144,
            "num_hidden_layers": 64,
            "num_attention_heads": 48,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "widening_factor": 8.0,
            "max_position_embeddings": 8192,
            # The default makes gradients alike in all layers, but a tied head of this width would then find the input
            # token again with a logit of some 360. In models of 4 to 32 layers, the scale that learned fastest put
            # that logit at 0.4 to 0.8 of the logarithm of the vocabulary; here it is 0.76 of it.
            "embedding_init_scale": 1.5,
        },
    ),
    # Llama's block at the size of GPT-2 small: 124 million parameters with 50 thousand tokens.
    "llama-125m": Preset(
        "llama",
        {
            "hidden_size": 768,
            "intermediate_size": 2048,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "num_key_value_heads": 12,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
        },
    ),
    # Radford et al. 2019: 124,439,808 parameters with GPT-2's own 50,257 tokens.
    "gpt2-124m": Preset("gpt2", {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}),
    # Mixtral's block, small enough for two cores: 8 experts, 2 of them for a token.
    "mixtral-tiny": Preset(
        "mixtral",
        {
            "hidden_size": 192,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "max_position_embeddings": 1024,
            "tie_word_embeddings": True,
        },
    ),
}
