"""Grok-1, an architecture that transformers does not have."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from pipeline.modeling.grok1.configuration_grok1 import Grok1Config
from pipeline.modeling.grok1.modeling_grok1 import Grok1ForCausalLM, Grok1ForSequenceClassification, Grok1Model

__all__ = ["Grok1Config", "Grok1ForCausalLM", "Grok1ForSequenceClassification", "Grok1Model", "register_grok1"]


def register_grok1() -> None:
    """Make transformers' Auto classes know Grok-1, and saved models carry the files of its classes."""
    AutoConfig.register(Grok1Config.model_type, Grok1Config, exist_ok=True)
    Grok1Config.register_for_auto_class()
    for auto, model in (
        (AutoModel, Grok1Model),
        (AutoModelForCausalLM, Grok1ForCausalLM),
        (AutoModelForSequenceClassification, Grok1ForSequenceClassification),
    ):
        auto.register(Grok1Config, model, exist_ok=True)
        model.register_for_auto_class(auto.__name__)
