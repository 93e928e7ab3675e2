"""The anatomy of a step in sentences and formulas with its numbers. Each takes from the record; nothing is measured."""

# ruff: noqa: RUF001  (minus and times are those of formulas)
from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from pipeline.reporting.formats import count, percent, power, power_of_ten, real
from pipeline.telemetry.anatomy import Anatomy, Difference, Example, Loss, Update

DIGITS, FINE_DIGITS = 5, 8
"""Shown, and shown of what is added with unlike signs, of which leading digits cancel."""

SOURCES = {
    "cross_entropy": "The cross-entropy and its gradient, softmax minus one-hot: C. Bishop, Pattern Recognition and "
    "Machine Learning, 2006; I. Goodfellow, Y. Bengio, A. Courville, Deep Learning, 2016.",
    "squared_error": "The squared error and its gradient: C. Bishop, Pattern Recognition and Machine Learning, 2006.",
    "huber": "Huber's loss: P. Huber, Robust Estimation of a Location Parameter, 1964.",
    "label_smoothing": "Label smoothing: C. Szegedy et al., Rethinking the Inception Architecture, 2016.",
    "z_loss": "The z-loss: A. Chowdhery et al., PaLM, 2022.",
    "router": "The router's losses: W. Fedus et al., Switch Transformers, 2022; B. Zoph et al., ST-MoE, 2022.",
    "backward": "Back-propagation: D. Rumelhart, G. Hinton, R. Williams, Learning Representations by Back-propagating "
    "Errors, 1986.",
    "factors": "Factors that multiply from layer to layer: Y. Bengio, P. Simard, P. Frasconi, 1994; X. Glorot, Y. "
    "Bengio, 2010; R. Pascanu, T. Mikolov, Y. Bengio, On the Difficulty of Training Recurrent Neural Networks, 2013.",
    "clip": "Clipping by the norm: Pascanu et al., 2013.",
    "sgd": "Momentum: I. Sutskever et al., On the Importance of Initialization and Momentum in Deep Learning, 2013, in "
    "PyTorch's form.",
    "adam": "Adam: D. Kingma, J. Ba, Adam: A Method for Stochastic Optimization, 2015.",
    "adamw": "AdamW: I. Loshchilov, F. Hutter, Decoupled Weight Decay Regularization, 2019.",
    "lens": "The loss read between the blocks: nostalgebraist, interpreting GPT: the logit lens, 2020.",
}

OTHER_METHODS = {
    "Muon": (
        "B ← μ B + (1 − μ) G,  ΔW = −c η O − η λ W,  c = 0.2 √max(rows, columns),  O: G + μ (B − G) made orthogonal by "
        "Newton and Schulz's iteration",
        "Muon: K. Jordan et al., Muon: An Optimizer for Hidden Layers in Neural Networks, 2024; its size c: J. Liu et "
        "al., Muon is Scalable for LLM Training, 2025.",
    ),
    "Adafactor": (
        "v ≈ (mean of g² of the row × that of the column) / their mean,  u = g / √v,  Δw = −η u / max(1, RMS(u)) − η λ "
        "w; in torch's own class η is a share of the size of w",
        "Adafactor: N. Shazeer, M. Stern, Adafactor: Adaptive Learning Rates with Sublinear Memory Cost, 2018.",
    ),
    "Lion": (
        "Δw = −η sign(β₁ m + (1 − β₁) g), besides the decay,  m ← β₂ m + (1 − β₂) g",
        "Lion: X. Chen et al., Symbolic Discovery of Optimization Algorithms, 2023.",
    ),
    "AdamW": (
        "m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²,  Δw = −η m̂ / (√v̂ + ε) − η λ w",
        "AdamW: I. Loshchilov, F. Hutter, 2019; with m and v in 8 bits: T. Dettmers et al., 8-bit Optimizers via "
        "Block-wise Quantization, 2022.",
    ),
    "RMSprop": (
        "v ← α v + (1 − α) g²,  Δw = −η g / (√v + ε)",
        "RMSprop: T. Tieleman, G. Hinton, Lecture 6.5 of Neural Networks for Machine Learning, 2012.",
    ),
    "Adagrad": (
        "v ← v + g²,  Δw = −η g / (√v + ε)",
        "Adagrad: J. Duchi, E. Hazan, Y. Singer, Adaptive Subgradient Methods, 2011.",
    ),
}
"""Optimizers whose updates are not worked out: the formula, as they have it by default, and its source."""

PARTS = {
    "label_smoothing": "label smoothing",
    "z_loss": "the z-loss, which keeps logits from drifting",
    "router": "the router's losses, which keep the experts evenly used",
}
"""What an objective has on top of the loss."""


@dataclass(frozen=True)
class WorkedLine:
    """A line of a calculation: what is computed, the formula, the same with numbers in it, and the result."""

    name: str
    formula: str
    numbers: str
    result: str


def figure(value: float, digits: int = DIGITS) -> str:
    """A number of the record, in five digits."""
    return real(value, digits) if value == 0 or 1e-3 <= abs(value) < 1e6 else _scientific(value, digits)


def alike(values: Iterable[float | None], digits: int = DIGITS) -> Callable[[float], str]:
    """A way to write numbers that stand in one column or calculation: all of them with a power of ten, or none."""
    sizes = [abs(value) for value in values if value]
    return partial(figure if all(1e-3 <= size < 1e6 for size in sizes) else _scientific, digits=digits)


def _scientific(value: float, digits: int = DIGITS) -> str:
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    times = f"×{power_of_ten(int(exponent))}" if int(exponent) else ""
    return f"{mantissa.replace('-', chr(0x2212))}{times}"


def _inner(number: str) -> str:
    """A number inside a formula: in brackets where it has a sign."""
    return f"({number})" if number.startswith("−") else number


def _under(number: str) -> str:
    """A number below a root or with an exponent: in brackets where it is more than digits."""
    return number if number.replace(".", "").isdigit() else f"({number})"


def setting(value: float) -> str:
    """A number that somebody chose, or a schedule, as they would write it."""
    mantissa, _, exponent = f"{value:.{DIGITS}g}".replace("-", "−").replace("e−", "e-").partition("e")
    if not exponent:
        return mantissa
    power = power_of_ten(int(exponent))
    return power if mantissa == "1" else f"{mantissa}×{power}"


def seen(text: str) -> str:
    """A token's text; what could not be seen by a sign."""
    shown = text.replace("\n", "↵")
    return shown if shown.strip() else shown.replace(" ", "␣")


def place(parameter: str, index: list[int]) -> str:
    """An entry of a parameter: `layers.0.mlp.up_proj[3, 17]`."""
    return f"{parameter}[{', '.join(map(str, index))}]"


def relative(one: float, other: float) -> float:
    """The difference of two numbers over the larger of their sizes."""
    return abs(one - other) / (max(abs(one), abs(other)) or 1.0)


def worst_difference(differences: list[Difference]) -> float:
    """The largest relative difference between the gradients of autograd and of two losses."""
    return max((relative(one.autograd, one.central) for one in differences), default=0.0)


def in_roundings(update: Update) -> float | None:
    """How far the optimizer's change is from that by hand, in distances between neighbouring weights of float32."""
    return None if update.by_hand is None else abs(update.by_hand - update.by_optimizer) / update.rounding


def example_lines(loss: Loss, example: Example, num_targets: int) -> list[WorkedLine]:
    """The loss of one target, and d(objective)/d(output), with its numbers."""
    output = figure(example.output)
    if example.target is None:
        assert example.wanted is not None
        error = example.output - example.wanted
        lines = [WorkedLine("error", "ŷ − y", f"{output} − {_inner(setting(example.wanted))}", figure(error))]
        if loss.formula == "squared_error":
            lines.append(WorkedLine("loss", "(ŷ − y)²", f"({figure(error)})²", figure(example.loss)))
            slope, numbers = "2 (ŷ − y) / n", f"2 × {_inner(figure(error))} / {count(num_targets)}"
        else:
            delta = loss.settings["huber_delta"]
            is_square = abs(error) <= delta
            formula = "(ŷ − y)² / 2" if is_square else "δ (|ŷ − y| − δ / 2)"
            within = (
                f"({figure(error)})² / 2"
                if is_square
                else f"{setting(delta)} × ({figure(abs(error))} − {setting(delta / 2)})"
            )
            lines.append(WorkedLine("loss", formula, within, figure(example.loss)))
            cut = max(-delta, min(delta, error))
            slope, numbers = "clip(ŷ − y, ±δ) / n", f"{figure(cut)} / {count(num_targets)}"
    else:
        assert example.log_normalizer is not None
        normalizer, chance = figure(example.log_normalizer), math.exp(-example.loss)
        lines = [
            WorkedLine(
                "probability p",
                "exp(z) / Σⱼ exp(zⱼ) = exp(z − log Σⱼ exp(zⱼ))",
                f"exp({output} − {normalizer})",
                f"{figure(chance)} = {percent(chance)}",
            ),
            WorkedLine("loss", "−log p = log Σⱼ exp(zⱼ) − z", f"{normalizer} − {_inner(output)}", figure(example.loss)),
        ]
        slope, numbers = _slope(loss, chance, normalizer, count(num_targets))
    lines.append(WorkedLine("gradient, by hand", slope, numbers, figure(example.by_hand)))
    lines.append(WorkedLine("gradient, by autograd", "", "", figure(example.by_autograd)))
    return lines


def _slope(loss: Loss, chance: float, normalizer: str, num_targets: str) -> tuple[str, str]:
    """d(objective)/d(logit) of a target: the formula, and with its numbers."""
    right, wanted, ours, given = "p", "1", figure(chance), "1"
    if (smoothing := loss.settings.get("label_smoothing_factor")) is not None:
        wanted, given = "(1 − s + s / C)", figure(1 - smoothing + smoothing / loss.num_outputs)
    if (coefficient := loss.settings.get("z_loss_coef")) is not None:
        right = "p (1 + 2 c log Σⱼ exp(zⱼ))"
        ours = f"{ours} × (1 + 2 × {setting(coefficient)} × {_inner(normalizer)})"
    return f"({right} − {wanted}) / n", f"({ours} − {given}) / {num_targets}"


def update_lines(update: Update) -> list[WorkedLine]:
    """The update of an entry, line by line."""
    if update.formula is None or update.by_hand is None:
        return []
    settings, worked, state = update.settings, update.worked, update.state
    worked_out = [value for name, value in worked.items() if name != "t"]
    shown = [update.weight, update.gradient, update.by_hand, *worked_out]
    write, fine = alike(shown), alike(shown, FINE_DIGITS)
    gradient, weight, rate = write(update.gradient), _inner(write(update.weight)), setting(settings["lr"])
    decay, lines = setting(settings["weight_decay"]), []
    if update.formula != "adamw":
        used = write(worked["with_decay"])
        lines.append(WorkedLine("gradient with decay g", "g + λ w", f"{gradient} + {decay} × {weight}", used))
    used = fine(worked.get("with_decay", update.gradient))
    change = write(update.by_hand)
    if update.formula == "sgd":
        return lines + _sgd_lines(update, write, fine, rate, change)
    first, second = settings["beta1"], settings["beta2"]
    mean, square, far, wide, step = (
        write(worked[name]) for name in ("mean", "square", "mean_corrected", "square_corrected", "step")
    )
    before = [_inner(fine(state.get(name, 0.0))) for name in ("exp_avg", "exp_avg_sq")]
    weighed = [f"{setting(b)} × {old} + {setting(1 - b)}" for b, old in zip((first, second), before, strict=True)]
    corrections = [f"(1 − {power(setting(beta), int(worked['t']))})" for beta in (first, second)]
    root = f"(√{_under(wide)}\u00a0+\u00a0{setting(settings['eps'])})"
    lines += [
        WorkedLine("mean m", "β₁ m + (1 − β₁) g", f"{weighed[0]} × {_inner(used)}", mean),
        WorkedLine("mean of squares v", "β₂ v + (1 − β₂) g²", f"{weighed[1]} × {_under(used)}²", square),
        WorkedLine("m̂", "m / (1 − β₁ᵗ)", f"{mean} / {corrections[0]}", far),
        WorkedLine("v̂", "v / (1 − β₂ᵗ)", f"{square} / {corrections[1]}", wide),
        WorkedLine("step", "η m̂ / (√v̂ + ε)", f"{rate} × {_inner(far)} / {root}", step),
    ]
    if update.formula == "adam":
        return [*lines, WorkedLine("change of w", "−step", f"−{_inner(step)}", change)]
    shrunk = write(worked["decay"])
    lines.append(WorkedLine("weight decay", "η λ w", f"{rate} × {decay} × {weight}", shrunk))
    return [*lines, WorkedLine("change of w", "−step − decay", f"−{_inner(step)} − {_inner(shrunk)}", change)]


def _sgd_lines(
    update: Update, write: Callable[[float], str], fine: Callable[[float], str], rate: str, change: str
) -> list[WorkedLine]:
    settings, worked, momentum = update.settings, update.worked, update.settings["momentum"]
    used, direction = fine(worked["with_decay"]), write(worked["with_decay"])
    lines = []
    if momentum:
        before, buffer = update.state.get("momentum_buffer"), write(worked["momentum"])
        old = "" if before is None else f"{setting(momentum)} × {_inner(fine(before))} + "
        numbers = f"{old}{setting(1 - settings['dampening'])} × {_inner(used)}" if old else used
        formula = "b = g in the first step" if before is None else "μ b + (1 − τ) g"
        lines.append(WorkedLine("momentum b", formula, numbers, buffer))
        direction = buffer
        if "nesterov" in worked:
            direction = write(worked["nesterov"])
            numbers = f"{used} + {setting(momentum)} × {_inner(fine(worked['momentum']))}"
            lines.append(WorkedLine("Nesterov's b", "g + μ b", numbers, direction))
    formula = "−η b" if momentum else "−η g"
    return [*lines, WorkedLine("change of w", formula, f"−{rate} × {_inner(direction)}", change)]


def update_meaning(update: Update) -> str:
    """What the update did to the entry, and why, in a sentence or two."""
    moved, weight = update.by_optimizer if update.by_hand is None else update.by_hand, update.weight
    write = alike([weight, weight + moved, moved])
    if not update.by_optimizer:
        return f"So this weight stays at {write(weight)}."
    told = f"So this weight goes from {write(weight)} to {write(weight + moved)}, by {write(moved)}."
    name, before, pull = _pull(update)
    if not (moved and pull):
        return told
    sign, done = ("positive" if pull > 0 else "negative"), ("lowered" if moved < 0 else "raised")
    if moved * pull > 0:
        return f"{told} It is {done}, for the decay outweighs the {name}."
    if not before:
        return f"{told} The {name} is {sign}, so it is {done}."
    both = alike([before, pull])
    change = f"({both(before)} → {both(pull)})"
    if before * pull < 0 < update.gradient * pull:
        return f"{told} This batch's {sign} slope turned the {name} {sign} {change}, so the weight is {done}."
    against = f", although this batch's own slope is {'negative' if pull > 0 else 'positive'}"
    return f"{told} The {name} is {sign} {change}, so it is {done}{against if update.gradient * pull < 0 else ''}."


def _pull(update: Update) -> tuple[str, float | None, float]:
    """What the weight is moved against: its name, what it was before, and what it is."""
    worked, state = update.worked, update.state
    if "mean" in worked:
        return "running mean m", state.get("exp_avg"), worked["mean"]
    if "momentum" in worked:
        return "momentum b", state.get("momentum_buffer"), worked.get("nesterov", worked["momentum"])
    return "slope", None, worked.get("with_decay", update.gradient)


def method_of(update: Update) -> str:
    """The optimizer's method without the bits in which it keeps its memory: Lion of PagedLion8bit."""
    return re.sub(r"^Paged|\d+bit$", "", update.method)


def summary_lines(anatomy: Anatomy, run: str) -> list[str]:
    """The anatomy in a few lines, for the terminal."""
    loss, batch = anatomy.loss, anatomy.batch
    guess = f" (guessing evenly: {figure(loss.guess)})" if loss.guess is not None else ""
    extra = f" and {figure(sum(loss.parts.values()))} on top" if loss.parts else ""
    lines = [
        f"{run}, after {anatomy.step:,} steps: a batch of {batch.targets:,} targets through "
        f"{sum(one.kind == 'block' for one in anatomy.stations):,} blocks and back",
        f"loss         {figure(loss.by_hand)} by its formula{guess}{extra}; torch's differs by "
        f"{real(relative(loss.objective, loss.by_torch), 2)} of it",
        f"gradient     at the outputs autograd's differs from the formula by {real(loss.gradient_difference, 2)} of it",
    ]
    if (factor := anatomy.factor_per_block) is not None:
        lines[-1] += f"; on the way back a block multiplies it by {real(factor, 3)}"
    if anatomy.differences:
        worst = real(worst_difference(anatomy.differences), 2)
        lines.append(
            f"check        moving each of {len(anatomy.differences)} weights up and down gives autograd's gradient to "
            f"{worst} of it"
        )
    else:
        lines.append(f"check        no weights were moved: {anatomy.no_differences}")
    if (step := anatomy.update) is None:
        return [*lines, f"update       none: {anatomy.no_update}"]
    far = [found for one in step.updates if (found := in_roundings(one)) is not None]
    told = f"by hand the same to {real(max(far), 2)} steps of float32" if far else "the optimizer's own"
    lines.append(f"update       {step.optimizer} with learning rate {real(step.learning_rate, 3)}: {told}")
    change, foretold = step.after - loss.by_torch, step.predicted_change
    lines.append(
        f"after        the same batch costs {figure(step.after)}: {_signed(change)}; the gradient foretold "
        f"{_signed(foretold)}"
    )
    return lines


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{real(value, 3)}"


def sources_of(anatomy: Anatomy) -> list[str]:
    """The sources of the formulas on the page."""
    keys = [anatomy.loss.formula, *anatomy.loss.parts, "backward", "factors"]
    if any(one.loss_here is not None for one in anatomy.stations):
        keys.append("lens")
    updates = anatomy.update.updates if anatomy.update is not None else []
    if anatomy.update is not None:
        keys += ["clip", *dict.fromkeys(one.formula for one in updates if one.formula)]
    others = [OTHER_METHODS[name][1] for name in unworked_methods(updates) if name in OTHER_METHODS]
    return [*(SOURCES[key] for key in keys if key in SOURCES), *others]


def unworked_methods(updates: Iterable[Update]) -> list[str]:
    """The methods whose updates are not worked out by hand."""
    return [*dict.fromkeys(method_of(one) for one in updates if one.formula is None and one.method)]
