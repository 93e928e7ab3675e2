"""Rules of the validation loss."""

from __future__ import annotations

from typing import ClassVar

from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.rules.base_rule import Reading, Rule, above, has_not_moved, is_late
from pipeline.telemetry.rules.data_rules import is_other_text
from pipeline.telemetry.rules.loss_rules import BOTH_RATES, no_learning
from pipeline.telemetry.window import Window

NOISE = 2.0
"""Standard errors of a validation loss that two of them may differ by chance."""

REPEATS = "train for fewer steps, get more data, or set train.early_stopping_patience and train.export: best"


class Overfitting(Rule):
    """The validation loss rises above its best, in two validations and by more than its noise, while the training loss
    falls and is a tenth below it. Without that distance both are merely noisy. Of text unlike
    that of training (`other_validation_text`) it rises as well."""

    kind: ClassVar = "validation"
    what: ClassVar = "overfitting"
    remedy: ClassVar = REPEATS
    source: ClassVar = 'generalization loss of Prechelt 1998, "Early Stopping - But When?"'
    at_once: ClassVar = True

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        if not window.has_eval or window.best_eval is None:
            return None
        step, best, training = window.best_eval
        rise = min(window.evals) / best - 1 if best > 0 and len(window.evals) == 2 else 0.0
        is_learning = window.loss < training and window.loss < 0.9 * window.evals[-1]
        is_learning = is_learning and not is_other_text(facts)
        words = f"the validation loss is {window.evals[-1]:.4g} at step {window.step:,}; its best is {best:.4g}, "
        words += f"at step {step:,}" + (
            f", and the median training loss has fallen from {training:.4g} to {window.loss:.4g} since"
            if is_learning
            else ""
        )
        # Both are of the same texts, so their difference is less noisy than either.
        error = window.record.get("eval/loss_error", 0.0)
        noise = NOISE * error / best if best > 0 else 0.0
        limits = {"warning": max(0.02, noise), "critical": max(0.10, 2 * noise)}
        figures = {"loss": window.evals[-1], "best": best, "error": error}
        return above(rise if is_learning else 0.0, limits, window, words, figures=figures)


class Gap(Rule):
    """The model knows the training text far better than other text."""

    kind: ClassVar = "validation"
    what: ClassVar = "generalization_gap"
    remedy: ClassVar = REPEATS
    source: ClassVar = "calibrated: healthy trainings of one epoch reach 1.12 times the median training loss"
    at_once: ClassVar = True

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        is_judged = facts.predicts == "tokens" and window.has_eval and window.losses and facts.frequency_loss
        if not is_judged or window.loss <= 0:
            return None
        loss, own = window.evals[-1], window.loss
        has_learned = own < (facts.frequency_loss or 0.0) and not is_other_text(facts)
        words = f"the validation loss is {loss:.4g} at step {window.step:,}"
        words += f", {loss / own:.2f} times the median training loss"
        figures = {"loss": loss, "train_loss": own}
        return above(loss / own if has_learned else 0.0, {"warning": 1.5}, window, words, figures=figures, base=1.0)


class NothingLearned(Rule):
    """No validation was better than a guess by frequencies."""

    kind: ClassVar = "validation"
    what: ClassVar = "nothing_learned"
    remedy: ClassVar = f"see whether data or labels have anything to learn; {BOTH_RATES}, or raise train.max_steps"
    source: ClassVar = "the entropy of single symbols (Shannon 1951); the margin of 1 % is calibrated"
    at_once: ClassVar = True

    def check(self, window: Window, facts: HealthFacts) -> Reading | None:
        frequencies = facts.frequency_loss
        if frequencies is None or not window.has_eval or window.best_eval is None:
            return None
        best = window.best_eval[1]
        has_not = has_not_moved(window, facts, best)
        if not has_not and not is_late(window, facts):
            return None
        words = f"the best validation loss up to step {window.step:,} is {best:.4g}; {facts.frequencies} costs "
        words += f"{frequencies:.4g}"
        figures = {"best": best, "frequencies": frequencies}
        return no_learning(window, facts, best, words, figures, has_not)


RULES = (Overfitting(), Gap(), NothingLearned())
