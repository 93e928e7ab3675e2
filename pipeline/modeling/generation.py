"""How a pretrained model was set to generate, as far as transformers saves it."""

from __future__ import annotations

from typing import Any

from transformers import GenerationConfig, PreTrainedModel

MODES = ("do_sample", "num_beams", "use_cache", "return_dict_in_generate")
"""Settings on which depends whether others apply."""


def settle_generation(model: PreTrainedModel) -> dict[str, Any]:
    """Take from the model's generation settings those that do not apply, which transformers ignores as it generates and
    refuses to save: such as a temperature without `do_sample`. Returns what was taken."""
    if not model.can_generate() or model.generation_config is None:
        return {}
    kept, left_out = GenerationConfig(), {}
    wanted = model.generation_config.to_diff_dict()
    for name in sorted(wanted, key=lambda name: name not in MODES):
        before = getattr(kept, name, None)
        setattr(kept, name, wanted[name])
        try:
            kept.validate(strict=True)
        except (ValueError, TypeError):
            setattr(kept, name, before)
            left_out[name] = wanted[name]
    model.generation_config = kept
    return left_out


def left_out_in_words(left_out: dict[str, Any]) -> str:
    """A sentence without its stop; "" where nothing was left out."""
    if not left_out:
        return ""
    named = ", ".join(f"{name}: {value}" for name, value in left_out.items())
    return f"of the pretrained model's settings for generation these do not apply and were left out: {named}"
