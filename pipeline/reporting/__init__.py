"""The report of a run and the model's card, made from manifests and metrics only; imports nothing heavy."""
