"""The anatomy of a step in sentences and formulas with its numbers. Each takes from the record; nothing is measured."""

# ruff: noqa: RUF001  (minus and times are those of formulas)
from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.reporting.formats import count, percent, power_of_ten, real
from pipeline.telemetry.anatomy import Anatomy, Difference, Example, Loss, Update

DIGITS = 5

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
}

PARTS = {
    "label_smoothing": "label smoothing",
    "z_loss": "the z-loss, which keeps logits from drifting",
    "router": "the router's losses, which keep the experts evenly used",
}
"""What an objective has on top of the loss."""

TASKS = {"tokens": "token", "classes": "document", "numbers": "document"}


@dataclass(frozen=True)
class WorkedLine:
    """A line of a calculation: what is computed, the formula, the same with numbers in it, and the result."""

    name: str
    formula: str
    numbers: str
    result: str


def figure(value: float) -> str:
    """A number of the record, in five digits."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return real(value, DIGITS)
    mantissa, _, exponent = f"{value:.{DIGITS - 1}e}".partition("e")
    return f"{mantissa.replace('-', chr(0x2212))}×{power_of_ten(int(exponent))}"


def setting(value: float) -> str:
    """A number that somebody chose, as they would write it."""
    mantissa, _, exponent = f"{value:.6g}".partition("e")
    if not exponent:
        return mantissa
    power = power_of_ten(int(exponent))
    return power if mantissa == "1" else f"{mantissa}×{power}"


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
        lines = [WorkedLine("error", "ŷ − y", f"{output} − {figure(example.wanted)}", figure(error))]
        if loss.formula == "squared_error":
            lines.append(WorkedLine("loss", "(ŷ − y)²", f"({figure(error)})²", figure(example.loss)))
            slope, numbers = "2 (ŷ − y) / n", f"2 × {figure(error)} / {count(num_targets)}"
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
        lines = [
            WorkedLine(
                "loss", "log Σⱼ exp(zⱼ) − z", f"{figure(example.log_normalizer)} − {output}", figure(example.loss)
            ),
            WorkedLine(
                "probability", "p = exp(−loss)", f"exp(−{figure(example.loss)})", percent(math.exp(-example.loss))
            ),
        ]
        chance = figure(math.exp(-example.loss))
        slope, numbers = "(p − 1) / n", f"({chance} − 1) / {count(num_targets)}"
        if loss.settings:
            slope, numbers = "(p − y) / n, with what is below", "the softmax, the target and what is on top of it"
    lines.append(WorkedLine("gradient, by hand", slope, numbers, figure(example.by_hand)))
    lines.append(WorkedLine("gradient, by autograd", "", "", figure(example.by_autograd)))
    return lines


def update_lines(update: Update, step_size: float) -> list[WorkedLine]:
    """The update of an entry, line by line."""
    if update.formula is None:
        return []
    settings, worked, state = update.settings, update.worked, update.state
    gradient, weight = figure(update.gradient), figure(update.weight)
    lines = []
    used = gradient
    decay = settings["weight_decay"]
    if update.formula != "adamw" and decay:
        used = figure(worked["with_decay"])
        lines.append(WorkedLine("with decay", "g + λ w", f"{gradient} + {setting(decay)} × {weight}", used))
    rate = figure(settings["lr"])
    if update.formula == "sgd":
        return lines + _sgd_lines(update, used, rate)
    first, second, number = settings["beta1"], settings["beta2"], worked["t"]
    mean, square = figure(worked["mean"]), figure(worked["square"])
    before = [figure(state.get(name, 0.0)) for name in ("exp_avg", "exp_avg_sq")]
    corrected = [figure(worked[name]) for name in ("mean_corrected", "square_corrected")]
    step = figure(worked["step"])
    lines += [
        WorkedLine(
            "mean m", "β₁ m + (1 − β₁) g", f"{setting(first)} × {before[0]} + {setting(1 - first)} × {used}", mean
        ),
        WorkedLine(
            "square v",
            "β₂ v + (1 − β₂) g²",
            f"{setting(second)} × {before[1]} + {setting(1 - second)} × ({used})²",
            square,
        ),
        WorkedLine("m̂", "m / (1 − β₁ᵗ)", f"{mean} / (1 − {setting(first)}^{count(number)})", corrected[0]),
        WorkedLine("v̂", "v / (1 − β₂ᵗ)", f"{square} / (1 − {setting(second)}^{count(number)})", corrected[1]),
        WorkedLine(
            "step", "η m̂ / (√v̂ + ε)", f"{rate} × {corrected[0]} / (√{corrected[1]} + {setting(settings['eps'])})", step
        ),
    ]
    change = f"−{step}"
    if update.formula == "adamw" and decay:
        shrunk = figure(worked["decay"])
        lines.append(WorkedLine("decay", "η λ w", f"{rate} × {setting(decay)} × {weight}", shrunk))
        change = f"−{step} − {shrunk}"
    return [*lines, _change(update, "−step − decay" if len(change) > len(step) + 1 else "−step", change)]


def _sgd_lines(update: Update, used: str, rate: str) -> list[WorkedLine]:
    settings, worked, momentum = update.settings, update.worked, update.settings["momentum"]
    lines, direction = [], used
    if momentum:
        before, buffer = update.state.get("momentum_buffer"), figure(worked["momentum"])
        part = 1 - settings["dampening"]
        numbers = used if before is None else f"{setting(momentum)} × {figure(before)} + {setting(part)} × {used}"
        formula = "b = g in the first step" if before is None else "μ b + (1 − τ) g"
        lines.append(WorkedLine("momentum b", formula, numbers, buffer))
        direction = buffer
        if "nesterov" in worked:
            direction = figure(worked["nesterov"])
            lines.append(WorkedLine("Nesterov", "g + μ b", f"{used} + {setting(momentum)} × {buffer}", direction))
    return [*lines, _change(update, "−η b" if momentum else "−η g", f"−{rate} × {direction}")]


def _change(update: Update, formula: str, numbers: str) -> WorkedLine:
    assert update.by_hand is not None
    return WorkedLine("change", formula, numbers.replace("−−", ""), figure(update.by_hand))


def summary_lines(anatomy: Anatomy, run: str) -> list[str]:
    """The anatomy in a few lines, for the terminal."""
    loss, batch = anatomy.loss, anatomy.batch
    guess = f" (guessing evenly: {figure(loss.guess)})" if loss.guess is not None else ""
    extra = f" and {figure(sum(loss.parts.values()))} on top" if loss.parts else ""
    lines = [
        f"{run}, after {anatomy.step:,} steps: a batch of {batch.targets:,} targets through "
        f"{len(anatomy.stations):,} parts and back",
        f"loss         {figure(loss.by_hand)} by its formula{guess}{extra}; torch's is "
        f"{real(relative(loss.objective, loss.by_torch), 2)} from it",
        f"gradient     of the outputs by hand is {real(loss.gradient_difference, 2)} from autograd's",
    ]
    if (factor := anatomy.factor_per_block) is not None:
        lines[-1] += f"; a block passes it on {real(factor, 3)} times as large"
    if anatomy.differences:
        worst = real(worst_difference(anatomy.differences), 2)
        lines.append(
            f"differences  two losses for each of {len(anatomy.differences)} weights give the gradient: {worst}"
        )
    else:
        lines.append(f"differences  none: {anatomy.no_differences}")
    if (step := anatomy.update) is None:
        return [*lines, f"update       none: {anatomy.no_update}"]
    far = [found for one in step.updates if (found := in_roundings(one)) is not None]
    told = f"by hand within {real(max(far), 2)} roundings of the optimizer's" if far else "the optimizer's own"
    lines.append(f"update       {step.optimizer} with rate {real(step.learning_rate, 3)}: {told}")
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
    if anatomy.update is not None:
        keys += ["clip", *dict.fromkeys(one.formula for one in anatomy.update.updates if one.formula)]
    return [SOURCES[key] for key in keys if key in SOURCES]
