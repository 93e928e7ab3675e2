"""What verdicts have to know of a training beside its records. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

GUESSES = {
    "tokens": ("guessing evenly", "guessing by token frequencies"),
    "classes": ("guessing evenly", "guessing by class frequencies"),
    "numbers": ("always saying 0", "always saying the best constant"),
}
"""By what is predicted: what `guess_loss` and `frequency_loss` are the losses of."""


@dataclass(frozen=True)
class OddDocument:
    """A document that is unlike the others. `ratio`: its bits a byte, by pairs of bytes of the others, over the median.
    `sign`: what shows that it is no text; "" where nothing does."""

    document: int
    """Its number in the training stream, from 1."""

    ratio: float
    sign: str
    text: str
    """How the odd part of it begins."""


@dataclass(frozen=True)
class GarbageFacts:
    """Documents that were looked at; those that are no text; and those that are unlike the others or hold a stretch
    that is no text. The most extreme of both."""

    documents: int
    garbage: int
    odd: int
    garbage_examples: tuple[OddDocument, ...] = ()
    odd_examples: tuple[OddDocument, ...] = ()


@dataclass(frozen=True)
class DataFacts:
    """Of the training data, or of an even sample of it; None where it cannot be said. Shares are from 0 to 1."""

    end_share: float | None = None
    """Tokens that end a document, of all tokens."""

    one_token_share: float | None = None
    """Documents with one token or none beside their end, of all documents."""

    repeated_share: float | None = None
    """Windows that are equal to an earlier one, of all windows."""

    order_gain: float | None = None
    """What knowing the byte before saves: 1 - (conditional entropy of a byte) / (entropy of a byte)."""

    vocabulary: int | None = None
    """Tokens of the vocabulary."""

    unused_tokens: int | None = None
    """Tokens of the vocabulary that never occur; None of a text that is too long to be looked through."""

    garbage: GarbageFacts | None = None
    """Documents that are no text."""

    label_evidence: float | None = None
    """By how many standard deviations the tokens of texts tell their labels better than chance."""


@dataclass(frozen=True)
class HealthFacts:
    """Of a training before its first step. Losses are those of training, a target: in nats, or of
    numbers squared errors or Huber's; None where it has no such loss."""

    predicts: str
    max_steps: int
    warmup_steps: int
    peak_rate: float
    epochs: float
    """How often the training reads its data; of a mixture the source that it reads least."""

    is_pretrained: bool
    stops_early: bool
    reads: Mapping[str, float] = field(default_factory=dict)
    """How often it reads each source of a mixture."""

    max_grad_norm: float | None = None
    guess_loss: float | None = None
    """Of a model that knows nothing: of a uniform guess, or of always saying 0."""

    frequency_loss: float | None = None
    """On the validation split, of a guess by how often each target stands in the training split, or of the number that
    costs least there."""

    batch_targets: float = 0.0
    """Of a global batch, on average."""

    probe_tokens: int = 0
    """At which the probe looks."""

    num_experts: int | None = None
    """Of a layer."""

    top_k: int | None = None
    """Experts that a token is sent to."""

    is_balanced: bool = False
    """Whether a loss spreads tokens over the experts."""

    router_coefficients: Mapping[str, float] = field(default_factory=dict)
    """Of the router's losses, by the name that each has in a record."""

    starts_small: bool = False
    """Whether weights are drawn so small that any usual rate makes them grow to a multiple at once."""

    unusual: Mapping[str, float] = field(default_factory=dict)
    """Settings far outside of what is usual, by their keys in a configuration."""

    attention_cap: float | None = None
    """That no attention logit passes."""

    data: DataFacts = field(default_factory=DataFacts)

    @property
    def guess(self) -> str:
        """What `guess_loss` is the loss of."""
        return GUESSES[self.predicts][0]

    @property
    def frequencies(self) -> str:
        """What `frequency_loss` is the loss of."""
        return GUESSES[self.predicts][1]

    @property
    def has_odd_units(self) -> bool:
        """Whether labels are numbers far from unit scale, which a new head needs long to reach."""
        return self.predicts == "numbers" and self.guess_loss is not None and not 1e-2 <= self.guess_loss <= 1e2

    def as_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From what `as_json` gave; what a version of before had and this one has not is left out."""
        data = _known(DataFacts, values.get("data") or {})
        if data.get("garbage") is not None:
            garbage = _known(GarbageFacts, data["garbage"])
            for name in ("garbage_examples", "odd_examples"):
                garbage[name] = tuple(OddDocument(**example) for example in garbage[name])
            data["garbage"] = GarbageFacts(**garbage)
        return cls(**{**_known(cls, values), "data": DataFacts(**data)})


def _known(kind: type[DataFacts | GarbageFacts | HealthFacts], values: Mapping[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in values.items() if name in names}
