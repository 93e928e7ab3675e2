# mypy: disable-error-code="import-not-found, no-redef, attr-defined, misc, assignment, unused-ignore"
"""What Grok-1 takes from transformers 5, and the same for 4.57. This file travels with exported models."""

from contextlib import nullcontext
from typing import Any

import torch
from transformers import masking_utils

try:
    from huggingface_hub.dataclasses import strict
    from transformers import PreTrainedConfig, initialization
    from transformers.integrations import use_experts_implementation
    from transformers.modeling_rope_utils import RopeParameters
    from transformers.modeling_utils import slice_logits_to_keep
    from transformers.utils.generic import maybe_autocast, merge_with_config_defaults
    from transformers.utils.output_capturing import OutputRecorder, capture_outputs

    create_causal_mask = masking_utils.create_causal_mask
except ImportError:  # transformers 4.57
    from torch.nn import init as initialization
    from transformers import PretrainedConfig
    from transformers.utils.generic import OutputRecorder
    from transformers.utils.generic import check_model_inputs as capture_outputs

    RopeParameters = dict
    SHARED_FIELDS = ("tie_word_embeddings", "pad_token_id", "bos_token_id", "eos_token_id")

    def strict(config_class: Any) -> Any:
        return config_class

    class PreTrainedConfig(PretrainedConfig):
        """A configuration whose class names its fields and their defaults, as all have in transformers 5."""

        rope_parameters: Any

        def __init__(self, **values: Any) -> None:
            for name in type(self).__annotations__:
                setattr(self, name, values.pop(name, getattr(type(self), name)))
            self.__post_init__(**values)

        def __post_init__(self, **kwargs: Any) -> None:
            rope = kwargs.pop("rope_scaling", None) or self.rope_parameters or {}
            theta = kwargs.pop("rope_theta", None) or 10000.0
            self.rope_parameters = {"rope_type": "default", "rope_theta": theta, **rope}
            super().__init__(**{name: getattr(self, name) for name in SHARED_FIELDS}, **kwargs)
            # Where 4.57 looks for them.
            self.rope_theta = self.rope_parameters["rope_theta"]
            is_scaled = self.rope_parameters["rope_type"] != "default"
            self.rope_scaling = dict(self.rope_parameters) if is_scaled else None
            self.validate_architecture()

    def use_experts_implementation(module_class: Any) -> Any:
        return module_class

    def merge_with_config_defaults(forward: Any) -> Any:
        return forward

    def maybe_autocast(device_type: str, enabled: bool) -> Any:
        is_on = device_type != "meta" and torch.is_autocast_enabled(device_type)
        return torch.autocast(device_type, enabled=enabled) if is_on else nullcontext()

    def slice_logits_to_keep(hidden_states: torch.Tensor, logits_to_keep: int | torch.Tensor) -> torch.Tensor:
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return hidden_states[:, kept, :]

    def create_causal_mask(*, inputs_embeds: torch.Tensor, past_key_values: Any, **named: Any) -> Any:
        seen = past_key_values.get_seq_length() if past_key_values is not None else 0
        places = torch.arange(seen, seen + inputs_embeds.shape[1], device=inputs_embeds.device)
        return masking_utils.create_causal_mask(
            input_embeds=inputs_embeds, cache_position=places, past_key_values=past_key_values, **named
        )


__all__ = [
    "OutputRecorder",
    "PreTrainedConfig",
    "RopeParameters",
    "capture_outputs",
    "create_causal_mask",
    "initialization",
    "maybe_autocast",
    "merge_with_config_defaults",
    "slice_logits_to_keep",
    "strict",
    "use_experts_implementation",
]
