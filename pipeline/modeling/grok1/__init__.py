"""Grok-1, known to transformers' Auto classes once this package is imported."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from pipeline.modeling.grok1.configuration_grok1 import Grok1Config
from pipeline.modeling.grok1.modeling_grok1 import Grok1ForCausalLM, Grok1ForSequenceClassification, Grok1Model

__all__ = ["Grok1Config", "Grok1ForCausalLM", "Grok1ForSequenceClassification", "Grok1Model"]

AutoConfig.register(Grok1Config.model_type, Grok1Config, exist_ok=True)
Grok1Config.register_for_auto_class()
for _auto, _model in (
    (AutoModel, Grok1Model),
    (AutoModelForCausalLM, Grok1ForCausalLM),
    (AutoModelForSequenceClassification, Grok1ForSequenceClassification),
):
    _auto.register(Grok1Config, _model, exist_ok=True)
    # Saved models carry the files of their classes.
    _model.register_for_auto_class(_auto.__name__)
