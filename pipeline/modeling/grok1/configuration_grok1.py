# mypy: disable-error-code="misc, untyped-decorator"
"""Configuration of Grok-1. Needs torch and transformers only: this file travels with exported models."""

from typing import Any

from .compat_grok1 import PreTrainedConfig, RopeParameters, strict

AUTO_MAP = {
    "AutoConfig": "configuration_grok1.Grok1Config",
    "AutoModel": "modeling_grok1.Grok1Model",
    "AutoModelForCausalLM": "modeling_grok1.Grok1ForCausalLM",
    "AutoModelForSequenceClassification": "modeling_grok1.Grok1ForSequenceClassification",
}
"""Where plain transformers finds each class in an exported folder."""


@strict
class Grok1Config(PreTrainedConfig):
    """Settings of Grok-1 (github.com/xai-org/grok-1); the defaults are the released model of 314 billion parameters.

    Widths are in channels. What the release derives from other settings is derived here when left at None:
    `intermediate_size` is `expert_width(widening_factor, hidden_size)`, `attention_multiplier` 1/sqrt(head_dim),
    `embedding_multiplier` sqrt(hidden_size).

    `mask_pad_tokens` hides every token of id `pad_token_id` as a key of attention, wherever it stands, as the release
    does; an attention mask hides further ones. With one expert or fewer, each layer has a dense feed-forward network
    and no router. `embedding_init_scale` is the root mean square that new embeddings give the residual stream,
    sqrt(2 num_hidden_layers) when None; see `_init_weights`.

    `router_aux_loss_coef` and `router_z_loss_coef` weight the router's losses, which are means over layers, when a
    loss is computed in training mode, and never otherwise; the release has none. None is what Switch Transformers
    and ST-MoE take for each layer, 0.01 and 0.001, times the number of layers.
    """

    model_type = "grok1"
    keys_to_ignore_at_inference = ("past_key_values",)
    attribute_map = {"num_experts": "num_local_experts"}  # noqa: RUF012

    vocab_size: int = 131072
    hidden_size: int = 6144
    num_hidden_layers: int = 64
    num_attention_heads: int = 48
    num_key_value_heads: int = 8
    head_dim: int = 128
    num_local_experts: int = 8
    num_experts_per_tok: int = 2
    widening_factor: float | int = 8.0
    intermediate_size: int | None = None
    hidden_act: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 8192
    rope_parameters: RopeParameters | dict | None = None
    rms_norm_eps: float = 1e-5
    attention_multiplier: float | int | None = None
    attn_logit_softcapping: float | int = 30.0
    embedding_multiplier: float | int | None = None
    output_multiplier: float | int = 0.5773502691896257
    mask_pad_tokens: bool = True
    embedding_init_scale: float | int | None = None
    output_router_logits: bool = False
    router_aux_loss_coef: float | int | None = None
    router_z_loss_coef: float | int | None = None
    use_cache: bool = True
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self, **kwargs: Any) -> None:
        if self.intermediate_size is None:
            self.intermediate_size = expert_width(self.widening_factor, self.hidden_size)
        if self.attention_multiplier is None:
            self.attention_multiplier = self.head_dim**-0.5
        if self.embedding_multiplier is None:
            self.embedding_multiplier = self.hidden_size**0.5
        if self.router_aux_loss_coef is None:
            self.router_aux_loss_coef = 0.01 * self.num_hidden_layers
        if self.router_z_loss_coef is None:
            self.router_z_loss_coef = 0.001 * self.num_hidden_layers
        kwargs.setdefault("auto_map", dict(AUTO_MAP))
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Raises ValueError for head and expert counts that do not fit together."""
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd; rotary embeddings pair channels")
        if self.num_local_experts > 1 and not 1 <= self.num_experts_per_tok <= self.num_local_experts:
            raise ValueError(
                f"num_experts_per_tok {self.num_experts_per_tok} is not between 1 and "
                f"num_local_experts {self.num_local_experts}"
            )


def expert_width(widening_factor: float, hidden_size: int) -> int:
    """The hidden width of an expert: two thirds of the widened model width, rounded up to a multiple of 8."""
    width = int(widening_factor * hidden_size) * 2 // 3
    return -(-width // 8) * 8


__all__ = ["Grok1Config"]
