"""What is judged, a file a kind. Imports nothing heavy."""

from pipeline.telemetry.rules import data, experts, gradients, loss, speed, updates, validation
from pipeline.telemetry.rules.base_rule import Rule

RULES: tuple[Rule, ...] = (
    *loss.RULES, *validation.RULES, *gradients.RULES, *updates.RULES, *experts.RULES, *data.RULES, *speed.RULES,
)  # fmt: skip
