"""What is judged, a file a kind. Imports nothing heavy."""

from pipeline.telemetry.rules import (
    activations_rules,
    attention_rules,
    data_rules,
    experts_rules,
    gradients_rules,
    loss_rules,
    speed_rules,
    updates_rules,
    validation_rules,
)
from pipeline.telemetry.rules.base_rule import Rule

RULES: tuple[Rule, ...] = (
    *loss_rules.RULES,
    *validation_rules.RULES,
    *gradients_rules.RULES,
    *updates_rules.RULES,
    *activations_rules.RULES,
    *attention_rules.RULES,
    *experts_rules.RULES,
    *data_rules.RULES,
    *speed_rules.RULES,
)
