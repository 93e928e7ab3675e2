# mypy: disable-error-code="misc, untyped-decorator"
"""Grok-1 in PyTorch. Needs torch and transformers only: this file travels with exported models.

Written from the architecture of github.com/xai-org/grok-1 (Apache-2.0). Where the release computes in float32 while the
rest is in bfloat16 (norms, rotary angles, router, attention scores), so does this file; float64 stays float64.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation import GenerationMixin
from transformers.modeling_layers import GenericForSequenceClassification, GradientCheckpointingLayer
from transformers.modeling_outputs import MoeCausalLMOutputWithPast, MoeModelOutputWithPast
from transformers.utils.generic import can_return_tuple

from .attention_grok1 import (
    Grok1Attention,
    Grok1QueryKeyProjection,
    Grok1RMSNorm,
    Grok1RotaryEmbedding,
    at_least_float32,
    attention_mask_for,
)
from .compat_grok1 import (
    OutputRecorder,
    capture_outputs,
    maybe_autocast,
    merge_with_config_defaults,
    slice_logits_to_keep,
    use_experts_implementation,
)
from .compat_grok1 import initialization as init
from .configuration_grok1 import Grok1Config
from .router_losses import router_loss_sums


class Grok1Router(nn.Module):
    """Probabilities of the chosen experts: softmax over all of them first, then the largest, not normalized again."""

    def __init__(self, config: Grok1Config) -> None:
        super().__init__()
        self.top_k = config.num_experts_per_tok
        self.weight = nn.Parameter(torch.empty(config.num_local_experts, config.hidden_size))

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of [tokens, width]: logits [tokens, experts], and probabilities and indices [tokens, top_k]."""
        with maybe_autocast(hidden_states.device.type, enabled=False):
            logits = functional.linear(at_least_float32(hidden_states), at_least_float32(self.weight))
            probabilities, indices = logits.softmax(-1).topk(self.top_k, dim=-1)
        return logits, probabilities, indices


@use_experts_implementation
class Grok1Experts(nn.Module):
    """GeGLU networks, stored together: the first half of `gate_up_proj` is the gate, which goes through GELU.

    This `forward` is the eager one; `config._experts_implementation` chooses among it and grouped products.
    """

    def __init__(self, config: Grok1Config) -> None:
        super().__init__()
        self.num_experts = config.num_local_experts
        width, inner = config.hidden_size, config.intermediate_size
        assert inner is not None
        self.gate_up_proj = nn.Parameter(torch.empty(self.num_experts, 2 * inner, width))
        self.down_proj = nn.Parameter(torch.empty(self.num_experts, width, inner))
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        output = torch.zeros_like(hidden_states)
        for expert in range(self.num_experts):
            tokens, choices = torch.where(top_k_index == expert)
            gate, up = functional.linear(hidden_states[tokens], self.gate_up_proj[expert]).chunk(2, dim=-1)
            values = functional.linear(self.act_fn(gate) * up, self.down_proj[expert])
            output.index_add_(0, tokens, (values * top_k_weights[tokens, choices, None]).to(output.dtype))
        return output


class Grok1MoE(nn.Module):
    """The mixture: every token goes through `num_experts_per_tok` experts, whose outputs add up by probability."""

    def __init__(self, config: Grok1Config) -> None:
        super().__init__()
        self.router = Grok1Router(config)
        self.experts = Grok1Experts(config)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        tokens = hidden_states.flatten(0, -2)
        _, probabilities, indices = self.router(tokens)
        experts, device, dtype = self.experts, tokens.device.type, tokens.dtype
        if not isinstance(experts, Grok1Experts):
            # An adapter around them changes their weights, which come first, inside of its own call.
            dtype = next(experts.parameters()).dtype
        elif device != "meta" and torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        inputs = (tokens.to(dtype), indices, probabilities.to(dtype))
        # Grouped products do not take part in autocast, so the weights are cast here.
        with maybe_autocast(device, enabled=False):
            if isinstance(experts, Grok1Experts) and dtype != experts.down_proj.dtype:
                weights = {name: weight.to(dtype) for name, weight in experts.named_parameters()}
                output = torch.func.functional_call(experts, weights, inputs)
            else:
                output = experts(*inputs)
        return output.view_as(hidden_states)


class Grok1MLP(nn.Module):
    """One dense GeGLU network, in place of a mixture of one."""

    def __init__(self, config: Grok1Config) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        assert inner is not None
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(hidden_states)) * self.up_proj(hidden_states))


class Grok1DecoderLayer(GradientCheckpointingLayer):
    """Attention and mixture, each between two norms, each added to the residual stream."""

    def __init__(self, config: Grok1Config, layer_idx: int) -> None:
        super().__init__()
        self.pre_attn_norm = Grok1RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Grok1Attention(config, layer_idx)
        self.post_attn_norm = Grok1RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.pre_moe_norm = Grok1RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.moe = Grok1MoE(config) if config.num_local_experts > 1 else Grok1MLP(config)
        self.post_moe_norm = Grok1RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        attention_output, _ = self.self_attn(self.pre_attn_norm(hidden_states), **kwargs)
        hidden_states = hidden_states + self.post_attn_norm(attention_output)
        return hidden_states + self.post_moe_norm(self.moe(self.pre_moe_norm(hidden_states)))


class Grok1PreTrainedModel(PreTrainedModel):
    """What all Grok-1 models share: initialization, and what transformers may do with them."""

    config_class = Grok1Config
    config: Any
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Grok1DecoderLayer"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _keep_in_fp32_modules_strict = ["router"]  # noqa: RUF012
    _supports_sdpa = False  # it has no soft cap
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {  # noqa: RUF012
        "router_logits": OutputRecorder(Grok1Router, index=0),
        "hidden_states": Grok1DecoderLayer,
        "attentions": Grok1Attention,
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize one module: a function of the module and the configuration alone.

        Norm scales are 1. Linear maps and experts have variance 1/fan-in, so that they keep the scale of their input;
        queries and keys a quarter and the router a tenth of it (as in Switch Transformers, arXiv 2101.03961, section
        2.4), so that attention and routing start soft.

        Whatever a branch's weights are, the norm behind it makes it add a variance of 1 to the residual stream, 2 a
        layer. Embeddings give the stream as much to start with as all branches add: small ones would let the first
        layers change the stream, and so the gradient on its way back, many times as much as the last. The price is a
        high loss in the first few steps, since a tied head then finds the input token again in the stream;
        `embedding_init_scale`, the root mean square of the first stream, weighs one against the other.
        """
        config = self.config
        is_tied_head = config.tie_word_embeddings and module is getattr(self, "lm_head", None)
        if isinstance(module, Grok1QueryKeyProjection):
            init.normal_(module.weight, std=0.5 * module.in_features**-0.5)
        elif isinstance(module, nn.Linear) and not is_tied_head:
            init.normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, Grok1Experts):
            init.normal_(module.gate_up_proj, std=config.hidden_size**-0.5)
            init.normal_(module.down_proj, std=config.intermediate_size**-0.5)
        elif isinstance(module, Grok1Router):
            init.normal_(module.weight, std=(0.1 / config.hidden_size) ** 0.5)
        elif isinstance(module, nn.Embedding):
            scale = config.embedding_init_scale or math.sqrt(2 * config.num_hidden_layers)
            init.normal_(module.weight, std=scale / config.embedding_multiplier)
        elif not is_tied_head:
            super()._init_weights(module)


class Grok1Model(Grok1PreTrainedModel):
    """The decoder without a head. `inputs_embeds` are rows of the embedding table, not yet multiplied."""

    def __init__(self, config: Grok1Config) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Grok1DecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = Grok1RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = Grok1RotaryEmbedding(config)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: Any = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> MoeModelOutputWithPast:
        """As in every decoder of transformers. With neither a cache nor an attention mask, positions that start again
        mark documents packed into one row, which do not see each other."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        packed_positions = position_ids if past_key_values is None and attention_mask is None else None
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        mask = attention_mask_for(
            self.config, inputs_embeds, input_ids, attention_mask, packed_positions, past_key_values
        )
        if position_ids is None:
            seen = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids = (torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device) + seen)[None]
        hidden_states = inputs_embeds * self.config.embedding_multiplier
        position_embeddings = self.rotary_emb(hidden_states, position_ids)
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                attention_mask=mask,
                position_embeddings=position_embeddings,
                position_ids=position_ids,
                past_key_values=past_key_values,
                use_cache=use_cache,
                **kwargs,
            )
        return MoeModelOutputWithPast(last_hidden_state=self.norm(hidden_states), past_key_values=past_key_values)


class Grok1ForCausalLM(Grok1PreTrainedModel, GenerationMixin):
    """Predicts the next token; its head is the embedding table unless `tie_word_embeddings` is off."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012
    _fsdp_plan = {"lm_head": "keep_full_weight"}  # noqa: RUF012

    def __init__(self, config: Grok1Config) -> None:
        super().__init__(config)
        self.model = Grok1Model(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: Any = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_router_logits: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> MoeCausalLMOutputWithPast:
        """As in every causal language model of transformers.

        In training mode `labels` also add the router's losses to `loss`, by the coefficients of the configuration;
        they are means over the tokens that are targets of some position. `aux_loss` is what they add.
        """
        config = self.config
        weighs_router = config.router_aux_loss_coef > 0 or config.router_z_loss_coef > 0
        weighs_router = weighs_router and self.training and labels is not None and config.num_local_experts > 1
        if output_router_logits is None:
            output_router_logits = config.output_router_logits
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_router_logits=output_router_logits or weighs_router,
            **kwargs,
        )
        hidden_states = slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep)
        logits = self.lm_head(hidden_states) * config.output_multiplier
        loss = aux_loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=config.vocab_size, **kwargs)
            if weighs_router:
                targets = functional.pad(labels, (0, 1), value=-100)[:, 1:] != -100
                sums = router_loss_sums(
                    outputs.router_logits, targets, config.num_local_experts, config.num_experts_per_tok
                )
                balance, z = (value / targets.sum().clamp_min(1) for value in sums)
                aux_loss = config.router_aux_loss_coef * balance + config.router_z_loss_coef * z
                loss = loss + aux_loss.to(loss.device)
        return MoeCausalLMOutputWithPast(
            loss=loss,
            aux_loss=aux_loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            router_logits=outputs.router_logits if output_router_logits else None,
        )

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.Tensor,
        *args: Any,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,  # named here, since `generate` looks for it
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Hides padding tokens among the ids so far too, which later steps only know by their place."""
        pad = self.config.pad_token_id if self.config.mask_pad_tokens else None
        if pad is not None and attention_mask is not None and attention_mask.shape == input_ids.shape:
            attention_mask = attention_mask * (input_ids != pad).to(attention_mask.dtype)
        return super().prepare_inputs_for_generation(
            input_ids, *args, attention_mask=attention_mask, inputs_embeds=inputs_embeds, **kwargs
        )


class Grok1ForSequenceClassification(GenericForSequenceClassification, Grok1PreTrainedModel):
    """Scores a sequence by its last token that is no padding: classes, or numbers (`problem_type`)."""

    def __init__(self, config: Grok1Config) -> None:
        # The generic constructor asks AutoModel for the decoder, which does not know code that travels with a model.
        Grok1PreTrainedModel.__init__(self, config)  # type: ignore[call-arg]
        self.num_labels = config.num_labels
        self.model = Grok1Model(config)
        self.score = nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.post_init()


__all__ = ["Grok1ForCausalLM", "Grok1ForSequenceClassification", "Grok1Model", "Grok1PreTrainedModel"]
