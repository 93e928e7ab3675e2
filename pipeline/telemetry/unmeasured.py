"""What a training does not measure, and why. Imports nothing heavy.

A record holds `unmeasured/<name>` for each of REASONS that applies: the number of layers, or 1 for the whole model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.telemetry.verdicts import Evidence, Verdict

UNMEASURED = "unmeasured/"
ATTENTION = "attention's entropy and logits are not measured in {:.0f} layers: "


@dataclass(frozen=True)
class Reason:
    """What is said where a figure would stand, and how to have it."""

    kind: str
    words: str
    remedy: str = ""


REASONS: Mapping[str, Reason] = {
    "probe": Reason("activations", "activations and attention are not measured: the model failed in the probe's pass"),
    "attention_code": Reason(
        "attention", ATTENTION + "their code does not go through transformers' attention interface"
    ),
    "attention_bias": Reason("attention", ATTENTION + "arguments that change scores, such as biases"),
    "attention_mask": Reason("attention", ATTENTION + "a mask of another kind than numbers or booleans"),
    "noise_scale": Reason(
        "gradients",
        "the gradient noise scale is not measured: it is told from batches of two sizes, and a step is 1 micro-batch",
        "a train.per_device_train_batch_size of at most half of train.global_batch_size over the number of processes",
    ),
    "noise_scale_fp16": Reason(
        "gradients",
        "the gradient noise scale is not measured under a loss scale (train.mixed_precision: fp16)",
        "train.mixed_precision: bf16",
    ),
}


class Unmeasured:
    """What the records of a training leave out."""

    def __init__(self) -> None:
        self._found: dict[str, float] = {}

    def add(self, record: Mapping[str, float]) -> list[Verdict]:
        """Take one record. Returns what it is the first to leave out."""
        new = {
            name: value
            for name in REASONS
            if (value := record.get(f"{UNMEASURED}{name}")) is not None and name not in self._found
        }
        self._found |= new
        return [_verdict(name, value) for name, value in new.items()]

    def verdicts(self) -> list[Verdict]:
        """A verdict for each thing that is unknown."""
        return [_verdict(name, value) for name, value in self._found.items()]


def _verdict(name: str, value: float) -> Verdict:
    reason = REASONS[name]
    words = reason.words.format(value) + (f"; to have it: {reason.remedy}" if reason.remedy else "")
    return Verdict(reason.kind, name, "unknown", Evidence(None, words))
