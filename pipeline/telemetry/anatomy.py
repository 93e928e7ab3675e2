"""The anatomy of a step, as a record: one batch through the network and back, and what the optimizer makes of it.
Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from pipeline import atomic

FOLDER = "anatomy"
"""In a work folder and in the artifact of a training: its records, one a file."""

MOST_RECORDED = 50_000_000
"""Parameters of a model that a training takes apart by itself."""

FORMAT = 1
_PREFIX, _SUFFIX = "step-", ".json"


@dataclass(frozen=True)
class Token:
    """A token or class."""

    id: int
    text: str


@dataclass(frozen=True)
class ShownBatch:
    """What goes through the network: rows of the validation split."""

    rows: int
    length: int
    """Positions of a row."""
    targets: int
    tokens: list[Token]
    """The first tokens of the first row."""


@dataclass(frozen=True)
class Passed:
    """What goes from one part to another."""

    rms: FiniteFloat
    """Root mean square."""
    gradient_norm: FiniteFloat | None
    """Euclidean norm of d(objective)/d(it)."""


@dataclass(frozen=True)
class Station:
    """A part of the network, in the order of the forward pass. Figures are None where they are not finite or not
    there."""

    name: str
    kind: Literal["embedding", "attention", "mlp", "block", "norm", "head"]
    shape: list[int]
    """Of its output."""
    rms: FiniteFloat | None
    """Root mean square of its output."""
    largest: FiniteFloat | None
    """Largest absolute value of its output."""
    gradient_norm: FiniteFloat | None
    """Euclidean norm of d(objective)/d(output)."""
    factor: FiniteFloat | None
    """Of a block: that norm at its input over that at its output, by which it passes the gradient on."""
    dead_share: FiniteFloat | None = None
    """Of an mlp: the part of its units that give nothing for any token."""
    entropy: FiniteFloat | None = None
    """Of attention: mean entropy of its weights over that of uniform ones."""
    loss_here: FiniteFloat | None = None
    """Of a block and of what the first one is given: the loss, were it read in the place of the last block's output."""
    given: Passed | None = None
    """Of a block: what goes into it."""
    normed: Passed | None = None
    """Of an attention or mlp that a norm follows: what that makes of it."""
    times: FiniteFloat | None = None
    """Of a block that gives what goes in plus k times what its attention and mlp, or the norms behind them, give: k."""


@dataclass(frozen=True)
class Alternative:
    """A token or class with the probability that the model gives it."""

    name: Token
    probability: FiniteFloat


@dataclass(frozen=True)
class Example:
    """One target, its loss by the formula, and d(objective)/d(output) by hand and by autograd."""

    before: str
    """The text before it."""
    target: Token | None
    """None of a number."""
    wanted: FiniteFloat | None
    """The number to predict; None of a token or class."""
    output: FiniteFloat
    """Logit of the target, or the predicted number."""
    log_normalizer: FiniteFloat | None
    loss: FiniteFloat
    by_hand: FiniteFloat
    by_autograd: FiniteFloat
    likeliest: list[Alternative]


@dataclass(frozen=True)
class Loss:
    """Means over the targets, by the formula in float64 and as training computes the objective."""

    formula: Literal["cross_entropy", "squared_error", "huber"]
    settings: dict[str, FiniteFloat]
    by_hand: FiniteFloat
    parts: dict[str, FiniteFloat]
    """What the objective has on top of the loss; a router's part is not by hand."""
    objective: FiniteFloat
    by_torch: FiniteFloat
    guess: FiniteFloat | None
    """What guessing evenly costs."""
    examples: list[Example]
    num_outputs: int
    gradient_norm: FiniteFloat
    """Of d(objective)/d(outputs) by hand."""
    gradient_difference: FiniteFloat
    """Norm of the difference from autograd's, over that norm."""
    outputs_rms: FiniteFloat | None = None
    """Root mean square of the outputs, as the loss is given them."""


@dataclass(frozen=True)
class Difference:
    """An entry of a parameter: its gradient by autograd, and by two losses with the entry moved by `width` up and
    down, over twice the width."""

    parameter: str
    index: list[int]
    weight: FiniteFloat
    autograd: FiniteFloat
    central: FiniteFloat
    loss_up: FiniteFloat
    loss_down: FiniteFloat
    width: FiniteFloat


@dataclass(frozen=True)
class Clip:
    """What is done to the gradient before the step."""

    norm: FiniteFloat
    """Of the whole gradient, in float64."""
    limit: FiniteFloat | None
    """train.max_grad_norm."""
    factor: FiniteFloat | None
    """By which every entry is scaled, by hand: limit / norm, at most 1. None where `others` are set."""
    applied: FiniteFloat
    """The norm after it over that before, as the training's code has it."""
    others: dict[str, FiniteFloat]
    """train.max_grad_value and train.gradient_density, where they are set: they come before the norm."""


@dataclass(frozen=True)
class Update:
    """An entry of a parameter before and after a step of the optimizer. `by_hand` is None where the formula is not one
    of those."""

    parameter: str
    index: list[int]
    weight: FiniteFloat
    gradient: FiniteFloat
    """After clipping."""
    formula: Literal["sgd", "adam", "adamw"] | None
    settings: dict[str, FiniteFloat]
    state: dict[str, FiniteFloat]
    """What the optimizer remembered of the entry."""
    worked: dict[str, FiniteFloat]
    """Steps of the formula, in their order."""
    by_hand: FiniteFloat | None
    """New weight minus old, in float64."""
    by_optimizer: FiniteFloat
    """The same between two weights in float32."""
    rounding: FiniteFloat
    """Distance between neighbouring numbers of float32 at the weight, before or after, whichever is larger."""
    method: str = ""
    """The optimizer's class that moved it."""


@dataclass(frozen=True)
class OptimizerStep:
    """What the optimizer makes of the batch."""

    optimizer: str
    learning_rate: FiniteFloat
    rate_of_step: int
    """The step of the training that has this rate."""
    is_last_rate: bool
    """Whether the training has no step after that."""
    clip: Clip
    updates: list[Update]
    predicted_change: FiniteFloat
    """Of the objective on this batch, by the gradient: the sum of gradient times update."""
    after: FiniteFloat
    """The objective of the batch after the update."""


@dataclass(frozen=True)
class Anatomy:
    """One batch at the weights after `step` steps of a training."""

    format: int
    step: int
    task: str
    num_parameters: int
    num_trainable: int
    batch: ShownBatch
    stations: list[Station]
    loss: Loss
    differences: list[Difference]
    no_differences: str
    """Why there are none; "" where there are."""
    update: OptimizerStep | None
    no_update: str
    """Why there is none; "" where there is."""

    def as_json(self) -> dict[str, Any]:
        """As values of JSON."""
        return asdict(self)

    @property
    def factor_per_block(self) -> float | None:
        """Geometric mean of the blocks' factors."""
        factors = [station.factor for station in self.stations if station.factor]
        product = 1.0
        for factor in factors:
            product *= factor ** (1 / len(factors))
        return product if factors else None


@cache
def _adapter() -> TypeAdapter[Anatomy]:
    return TypeAdapter(Anatomy)


def record_of(folder: Path, step: int) -> Path:
    """The record of a step below a work folder or an artifact of a training, whether or not it is there."""
    return folder / FOLDER / f"{_PREFIX}{step:08d}{_SUFFIX}"


def write_anatomy(folder: Path, anatomy: Anatomy) -> None:
    """Write a record, whole or not at all."""
    path = record_of(folder, anatomy.step)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_json(path, anatomy.as_json())


def read_anatomy(folder: Path, step: int) -> Anatomy | None:
    """The record of a step; None where it is missing, damaged or of another format."""
    try:
        found = _adapter().validate_json(record_of(folder, step).read_bytes())
    except (OSError, ValidationError):
        return None
    return found if (found.format, found.step) == (FORMAT, step) else None


def drop_anatomies(folder: Path, is_dropped: Callable[[int], bool]) -> None:
    """Remove the records of some steps."""
    for step in recorded_steps(folder):
        if is_dropped(step):
            atomic.remove(record_of(folder, step))


def chosen_anatomies(folder: Path) -> list[Anatomy]:
    """Of the records below a folder the first, the last, and one in the middle, as far as there are."""
    whole = [found for step in recorded_steps(folder) if (found := read_anatomy(folder, step)) is not None]
    places = sorted({0, len(whole) // 2, len(whole) - 1})
    return [whole[place] for place in places] if whole else []


def recorded_steps(folder: Path) -> list[int]:
    """Steps that have a file, in order."""
    names = [path.name for path in (folder / FOLDER).glob(f"{_PREFIX}*{_SUFFIX}")]
    numbers = [name.removeprefix(_PREFIX).removesuffix(_SUFFIX) for name in names]
    return sorted(int(number) for number in numbers if number.isascii() and number.isdigit() and len(number) == 8)
