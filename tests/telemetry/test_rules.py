"""Each rule on both sides of its threshold, on records made by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from pipeline.telemetry.facts import DataFacts, GarbageFacts, HealthFacts
from pipeline.telemetry.panel import HealthPanel, replay
from pipeline.telemetry.rules import RULES
from pipeline.telemetry.verdicts import KINDS, Verdict, by_severity, headline, verdicts_of, worst

FACTS = HealthFacts(
    predicts="tokens",
    max_steps=1000,
    warmup_steps=0,
    peak_rate=1e-3,
    epochs=1.0,
    is_pretrained=False,
    stops_early=False,
    max_grad_norm=1.0,
    guess_loss=8.0,
    batch_targets=512.0,
    frequency_loss=7.0,
)
Records = list[dict[str, float]]


def losses(*values: float, every: int = 10, **others: float) -> Records:
    return [{"step": (i + 1) * every, "train/loss": value, **others} for i, value in enumerate(values)]


def at_full_rate(*values: float) -> Records:
    return losses(*values, **{"train/learning_rate": 1e-3})


def validation(loss: float, step: int = 170) -> dict[str, float]:
    return {"step": step, "eval/loss": loss}


def layers(gradients: Iterable[float] = (1, 1), ratios: Iterable[float] = (1e-3, 1e-3), rate: float = 1e-3) -> Records:
    line: dict[str, float] = {"train/learning_rate": rate}
    for i, (gradient, ratio) in enumerate(zip(gradients, ratios, strict=True)):
        figures = {"grad_norm": gradient, "weight_norm": 1.0, "update_norm": ratio}
        line |= {f"matrices/layers.{i}.mlp/{name}": value for name, value in figures.items()}
    return [{"step": step, **line} for step in range(10, 60, 10)]


def grown(*norms: float) -> Records:
    """Three matrices, of which one does not grow; at the full rate, a record every ten steps."""
    return [
        {"step": 10 * (i + 1), "train/learning_rate": 1e-3}
        | {f"matrices/layers.0.{name}/weight_norm": 1.0 if name == "a" else norm for name in "abc"}
        for i, norm in enumerate(norms)
    ]


def decays(share: float) -> Records:
    """Three matrices, of which one has no decay."""
    line = {f"matrices/layers.0.{name}/weight_norm": 2.0 for name in "abc"}
    line |= {
        f"matrices/layers.0.{name}/decay_norm": part
        for name, part in zip("abc", (0, 2 * share, 2 * share), strict=True)
    }
    return [{"step": step, **line} for step in range(10, 60, 10)]


def validated(training: Iterable[float], validation: Iterable[float], every: int = 100, **others: float) -> Records:
    found: Records = []
    for i, (own, other) in enumerate(zip(training, validation, strict=True)):
        step = (i + 1) * every
        found += [{"step": step - 5 + j, "train/loss": own} for j in range(5)]
        found.append({"step": step, "eval/loss": other, **others})
    return found


def experts(least: float) -> Records:
    return losses(5, 5, 5, 5, 5, **{"train/expert_load/0": least / 2, "train/expert_load/1": 1 - least / 2})


def probes(after: int = 0, **figures: Iterable[float]) -> Records:
    """Five probes with the figures of each block."""
    line: dict[str, float] = {"probe/loss": 5.0, "train/loss": 7.5, "probe/embed_tokens/out_grad_norm": 1.0}
    for name, values in figures.items():
        for i, value in enumerate(values):
            place = ".mlp.act" if name.endswith("_units") else ""
            part = "attention" if name.startswith(("entropy", "largest")) else "probe"
            part = "experts" if name in ("load_most", "router_entropy") else part
            line[f"{part}/layers.{i}{place}/{name}"] = value
    return [{"step": step, **line} for step in range(after, after + 50, 10)]


def looks(entropy: float, logit: float) -> Records:
    return probes(entropy_mean=(1, entropy), largest_logit=(1, logit))


def idle(share: float) -> Records:
    [record, *_] = probes(growth=(1, 1), out_rms=(0.1, 0.1))
    return [{**record, **{f"probe/layers.{i}.mlp/out_rms": share / 10 for i in range(2)}}]


def noise(batches: float) -> Records:
    return losses(5, 5, 5, **{"train/grad_noise_scale": 100 * batches})


def waits(share: float, whole: float) -> Records:
    return losses(5, 5, 5, 5, 5, **{"time/data_seconds": share * whole, "time/rest_seconds": (1 - share) * whole})


def norms(*values: float, clipped: float = 0.0) -> Records:
    return [
        {"step": (i + 1) * 10, "train/loss": 5.0, "train/grad_norm": value, "train/clipped_share": clipped}
        for i, value in enumerate(values)
    ]


def data(**changes: float) -> dict[str, Any]:
    return {"data": DataFacts(**changes)}


ROUTER = {"train/router_balance_loss": 1.0, "train/router_z_loss": 4.0, "train/objective": 99.0}
"""Label smoothing may be in the objective too."""


def weighed(added: float) -> dict[str, Any]:
    """Coefficients with which the losses of ROUTER add so much."""
    return {"router_coefficients": {"router_balance_loss": added / 2, "router_z_loss": added / 8}}


def unused(count: int, vocabulary: int = 3000) -> dict[str, Any]:
    return {"data": DataFacts(unused_tokens=count, vocabulary=vocabulary)}


def never_updated(step: int) -> Records:
    return [{"step": step, "embedding/never_updated_rows": 1600.0, "embedding/never_updated_share": 1600 / 3000}]


def garbage(count: int, documents: int = 5000, odd: int = 0) -> dict[str, Any]:
    return {"data": DataFacts(garbage=GarbageFacts(documents, count, odd))}


NOISY = [7.0, 6.0, 5.0, 4.05, 3.95, 4.0, 4.02, 3.98]

PROBED, MIXTURE = {"probe_tokens": 512}, {"probe_tokens": 512, "num_experts": 8, "top_k": 2}

OTHER = {"frequency_loss": 8.9}
"""Of a validation split that is another text."""

MASKED = [{**one, "probe/lm_head/out_not_finite": 1.0} for one in probes()]
"""The head masks an output by an infinity."""

WARMING, FULL = {"warmup_steps": 500}, {"max_steps": 400}
ODD = {**FULL, "unusual": {"train.adam_epsilon": 1.0}}
FROM_ABOVE, SHORT = [8.4, 8.3, 8.2, 8.15], {"warmup_steps": 80}
STUCK = at_full_rate(*[7.99] * 5)
SLOW = [7.9 - 0.03 * i for i in range(16)]
"""Loses 3 % in the second half, and is still above the frequencies."""

LABELS = {"predicts": "classes"}
NUMBERS = {"predicts": "numbers"}
SWINGING = [*[8.0] * 5, *([4.0] * 7 + [8.5] * 7) * 4]
"""Of few labels a step."""

TABLE: list[tuple[str, str, Records, Records, dict[str, Any], dict[str, Any]]] = [
    # rule, severity, healthy records, bad records, facts of the first, facts of the second
    ("loss_above_guessing", "critical", losses(*[8.05] * 5), losses(*[8.15] * 5), {}, {}),
    ("loss_above_guessing", "critical", losses(*FROM_ABOVE, 8.05), losses(*FROM_ABOVE, 8.2), SHORT, SHORT),
    ("no_better_than_frequencies", "critical", losses(*[6.9] * 30), losses(*[6.95] * 30), {}, {}),
    ("no_better_than_frequencies", "critical", losses(*[6.95] * 30), losses(*[6.95] * 30), {"warmup_steps": 200}, {}),
    ("loss_above_guessing", "critical", losses(*[15.9] * 5), losses(*[16.1] * 5), {"warmup_steps": 500}, WARMING),
    # At the full rate 0.03 and 0.01 of the way to the frequencies; after 80 steps and 70, with a cause 20 and 10.
    ("no_better_than_frequencies", "critical", at_full_rate(*[7.97] * 8), at_full_rate(*[7.99] * 8), FULL, FULL),
    ("no_better_than_frequencies", "critical", at_full_rate(*[7.99] * 7), at_full_rate(*[7.99] * 8), FULL, FULL),
    ("no_better_than_frequencies", "critical", at_full_rate(7.99), at_full_rate(*[7.99] * 2), ODD, ODD),
    ("no_better_than_frequencies", "critical", losses(*[7.2] * 9), losses(*[7.2] * 13), {}, {}),
    ("no_better_than_frequencies", "critical", losses(*[7.2] * 13), losses(*[7.2] * 13), {"batch_targets": 64.0}, {}),
    ("no_better_than_frequencies", "note", losses(*SLOW[:14]), losses(*SLOW), {}, {}),
    ("nothing_learned", "critical", [*STUCK, validation(7.9, 60)], [*STUCK, validation(7.99, 60)], ODD, ODD),
    ("nothing_learned", "note", [*losses(*SLOW), validation(6.9)], [*losses(*SLOW), validation(7.0)], {}, {}),
    # At the full rate 4.33, 6 and 7.67 times after 20, 30 and 40 steps; at a thousandth of it four times.
    ("overwritten_weights", "critical", grown(1, 4.2, 5.9, 7.6), grown(1, 4.4, 6.1, 7.8), {}, {}),
    (
        "overwritten_weights",
        "critical",
        grown(1, *[3.9] * 4),
        grown(1, *[4.1] * 4),
        {"peak_rate": 1.0},
        {"peak_rate": 1.0},
    ),
    ("overwritten_weights", "critical", grown(1, *[9] * 4), grown(1, *[9] * 4), {"is_pretrained": True}, {}),
    ("overwritten_weights", "critical", grown(1, *[9] * 4), grown(1, *[9] * 4), {"starts_small": True}, {}),
    ("loss_above_guessing", "critical", losses(*SWINGING), losses(*[8.2] * 20), LABELS, LABELS),
    ("loss_above_guessing", "critical", losses(*SWINGING), losses(*[17.0] * 5), LABELS, LABELS),
    ("loss_diverged", "critical", losses(*SWINGING), losses(*SWINGING, *[8.2] * 15), LABELS, LABELS),
    ("loss_above_guessing", "critical", losses(*[15.0] * 20), losses(*[17.0] * 20), NUMBERS, NUMBERS),
    ("no_better_than_frequencies", "critical", losses(*[6.8] * 90), losses(*[6.95] * 90), NUMBERS, NUMBERS),
    ("loss_diverged", "critical", [*losses(*NOISY, *[5.3] * 9)], [*losses(*NOISY, *[6.0] * 9)], {}, {}),
    (
        "loss_plateau",
        "warning",
        losses(*[6.0] * 60),
        losses(*[6.5] * 60),
        {},
        {},
    ),
    (
        "loss_plateau",
        "warning",
        losses(*(6.5 + 0.02 * i for i in range(60))),
        losses(*(6.5 + 0.002 * i for i in range(60))),
        {},
        {},
    ),
    (
        "loss_plateau",
        "warning",
        losses(*(6.8 - 0.005 * i for i in range(60))),
        losses(*(6.8 - 0.0001 * i for i in range(60))),
        {},
        {},
    ),
    (
        "loss_plateau",
        "warning",
        losses(*[6.5] * 60, **{"train/learning_rate": 0.4e-3}),
        losses(*[6.5] * 60, **{"train/learning_rate": 0.6e-3}),
        {},
        {},
    ),
    (
        "overfitting",
        "warning",
        validated((5, 4, 3, 2), (5, 4, 4.05, 4.07)),
        validated((5, 4, 3, 2), (5, 4, 4.1, 4.1)),
        {},
        {},
    ),
    (
        "overfitting",
        "warning",
        validated((5, 4.3, 4, 3.9), (5, 4, 4.1, 4.1)),
        validated((5, 4.3, 4, 3.5), (5, 4, 4.1, 4.1)),
        {},
        {},
    ),
    ("overfitting", "critical", validated((5, 4, 4, 4), (5, 4, 5, 5)), validated((5, 4, 3, 2), (5, 4, 5, 5)), {}, {}),
    (
        "overfitting",
        "warning",
        validated((5, 4, 3, 2), (5, 4, 5, 5), **{"eval/loss_error": 0.55}),
        validated((5, 4, 3, 2), (5, 4, 5, 5), **{"eval/loss_error": 0.45}),
        {},
        {},
    ),
    ("generalization_gap", "warning", validated((4, 3), (5, 4.2)), validated((4, 3), (5, 4.8)), {}, {}),
    ("nothing_learned", "critical", validated((7, 7), (6.9, 6.9)), validated((7, 7), (7, 6.95)), {}, {}),
    ("vanishing_gradients", "critical", layers((1.1e-3, 1)), layers((0.9e-3, 1)), {}, {}),
    ("vanishing_gradients", "critical", layers((1, 1)), layers((0, 1)), {}, {}),
    ("exploding_gradients", "critical", layers((900, 1)), layers((1100, 1)), {}, {}),
    ("growing_gradients", "critical", norms(*[1] * 6, *[90] * 9), norms(*[1] * 6, *[110] * 9), {}, {}),
    ("always_clipped", "warning", norms(*[9] * 6, clipped=1.0), norms(*[1100] * 6, clipped=1.0), {}, {}),
    ("always_clipped", "note", norms(*[9] * 6, clipped=1.0), norms(*[11] * 6, clipped=1.0), {}, {}),
    ("unstable_updates", "warning", layers(ratios=(1e-3, 0.45)), layers(ratios=(1e-3, 0.55)), {}, {}),
    ("unstable_updates", "critical", layers(ratios=(1e-3, 0.01)), layers(ratios=(1e-3, 1.1)), {}, {}),
    ("stalled_updates", "critical", layers(ratios=(1.1e-5, 1.1e-5)), layers(ratios=(0.9e-5, 0.9e-5)), {}, {}),
    ("stalled_updates", "critical", layers(ratios=(1e-9, 1e-9), rate=4e-4), layers(ratios=(1e-9, 1e-9)), {}, {}),
    ("idle_experts", "warning", experts(0.11), experts(0.09), {}, {}),
    ("idle_experts", "critical", experts(0.3), experts(0.005), {}, {}),
    ("gradient_factor", "critical", probes(out_grad_norm=(1.1e-3, 1)), probes(out_grad_norm=(0.9e-3, 1)), {}, {}),
    ("gradient_factor", "critical", probes(out_grad_norm=(900, 1)), probes(out_grad_norm=(1100, 1)), {}, {}),
    ("gradient_factor", "critical", probes(out_grad_norm=(0.5, 1)), probes(out_grad_norm=(0, 1)), {}, {}),
    ("noisy_gradient", "note", noise(27), noise(33), {"batch_targets": 100.0}, {"batch_targets": 100.0}),
    ("not_finite", "critical", probes(out_rms=(1, 1)), probes(out_not_finite=(1,)), {}, {}),
    ("not_finite", "critical", MASKED, [{**one, "probe/loss_not_finite": 1.0} for one in MASKED], {}, {}),
    ("dead_units", "warning", probes(dead_units=(0.18, 0)), probes(dead_units=(0.22, 0)), PROBED, PROBED),
    ("dead_units", "critical", probes(dead_units=(0.9,)), probes(dead_units=(0.55,)), {"probe_tokens": 256}, PROBED),
    ("saturated_units", "warning", probes(saturated_units=(0.18,)), probes(saturated_units=(0.22,)), PROBED, PROBED),
    ("residual_growth", "warning", probes(growth=(50, 9, 1)), probes(growth=(50, 11, 1)), {}, {}),
    ("residual_growth", "warning", probes(growth=(1, 9, 9, 1.1)), probes(growth=(1, 9, 9, 1.3)), {}, {}),
    ("residual_growth", "warning", probes(growth=(1, 50)), probes(growth=(1, 50)), {"is_pretrained": True}, {}),
    ("first_block", "note", probes(growth=(90, 1)), probes(growth=(110, 1)), {}, {}),
    ("fading_activations", "critical", probes(growth=(1, 0.011)), probes(growth=(1, 0.009)), {}, {}),
    ("fading_activations", "critical", probes(growth=(1, 1)), probes(growth=(0, 1)), {}, {}),
    ("saturated_attention", "warning", looks(0.066, 110), looks(0.054, 110), {}, {}),
    ("saturated_attention", "critical", looks(0.02, 90), looks(0.027, 110), {}, {}),
    ("idle_blocks", "warning", idle(2e-3), idle(5e-4), {}, {}),
    ("idle_blocks", "warning", idle(0.0), idle(5e-4), {}, {}),
    ("large_attention_logits", "warning", probes(largest_logit=(900,)), probes(largest_logit=(1100,)), {}, {}),
    (
        "large_attention_logits",
        "critical",
        probes(largest_logit=(11000,)),
        probes(largest_logit=(11000,)),
        {"attention_cap": 30.0},
        {},
    ),
    (
        "uniform_attention",
        "warning",
        probes(200, entropy_lowest_head=(0.999, 0.99)),
        probes(200, entropy_lowest_head=(0.999, 0.996)),
        {},
        {},
    ),
    (
        "uniform_attention",
        "warning",
        probes(200, entropy_lowest_head=(1, 1)),
        probes(200, entropy_lowest_head=(1, 1)),
        {"frequency_loss": 8.0},
        {},
    ),
    ("strong_decay", "warning", decays(0.008), decays(0.012), {}, {}),
    ("strong_decay", "critical", decays(0.009), decays(0.11), {}, {}),
    (
        "collapsed_router",
        "critical",
        probes(50, load_most=(1, 4)),
        probes(100, load_most=(1, 4)),
        {**MIXTURE, "is_balanced": True},
        {**MIXTURE, "is_balanced": True},
    ),
    ("collapsed_router", "warning", probes(50, load_most=(2.9,)), probes(50, load_most=(3.1,)), MIXTURE, MIXTURE),
    ("collapsed_router", "critical", probes(load_most=(2.8,)), probes(load_most=(1, 4)), MIXTURE, MIXTURE),
    ("router_entropy", "warning", probes(200, router_entropy=(1, 0.999)), probes(200, router_entropy=(1, 1)), {}, {}),
    (
        "router_entropy",
        "warning",
        probes(200, router_entropy=(0.5, 0.022)),
        probes(200, router_entropy=(0.5, 0.018)),
        {},
        {},
    ),
    ("router_losses", "warning", losses(*[5] * 5, **ROUTER), losses(*[5] * 5, **ROUTER), weighed(4.9), weighed(5.1)),
    (
        "router_losses",
        "warning",
        losses(*[0.1] * 5, **ROUTER),
        losses(*[0.1] * 5, **ROUTER),
        weighed(0.9),
        weighed(1.1),
    ),
    ("waiting_for_data", "warning", waits(0.18, 1.0), waits(0.22, 1.0), {}, {}),
    ("waiting_for_data", "critical", waits(0.8, 0.024), waits(0.8, 0.1), {}, {}),
    ("other_validation_text", "warning", losses(5), losses(5), {"frequency_loss": 8.7}, {"frequency_loss": 8.9}),
    (
        "overfitting",
        "critical",
        validated((5, 4, 3, 2), (5, 4, 5, 5)),
        validated((5, 4, 3, 2), (5, 4, 5, 5)),
        OTHER,
        {},
    ),
    ("generalization_gap", "warning", validated((4, 3), (5, 4.8)), validated((4, 3), (5, 4.8)), OTHER, {}),
    ("many_end_tokens", "warning", losses(5), losses(5), data(end_share=0.09), data(end_share=0.11)),
    ("one_token_documents", "warning", losses(5), losses(5), data(one_token_share=0.18), data(one_token_share=0.22)),
    ("repeated_windows", "warning", losses(5), losses(5), data(repeated_share=0.045), data(repeated_share=0.055)),
    ("text_without_order", "warning", losses(5), losses(5), data(order_gain=0.055), data(order_gain=0.045)),
    ("garbage_documents", "warning", losses(5), losses(5), garbage(0), garbage(1)),
    ("garbage_documents", "note", losses(5), losses(5), garbage(0, 20_000), garbage(1, 20_000)),
    ("odd_documents", "note", losses(5), losses(5), garbage(1), garbage(0, odd=1)),
    ("labels_without_text", "warning", losses(5), losses(5), data(label_evidence=3.3), data(label_evidence=2.7)),
    ("unused_vocabulary", "note", losses(5), losses(5), unused(1400, 4500), unused(1600, 4500)),
    ("unused_vocabulary", "warning", losses(5), losses(5), unused(1000), unused(1600)),
    ("unused_vocabulary", "warning", losses(5), losses(5), {**unused(2000), "is_pretrained": True}, unused(2000)),
    ("unused_vocabulary", "warning", losses(5), losses(5), unused(250, 300), unused(1100, 1200)),
    ("unused_vocabulary", "warning", never_updated(400), never_updated(500), {"epochs": 2.0}, {"epochs": 2.0}),
    ("many_epochs", "warning", losses(5), losses(5), {"epochs": 15}, {"epochs": 17}),
    ("many_epochs", "warning", losses(5), losses(5), {"reads": {"a": 1, "b": 15}}, {"reads": {"a": 1, "b": 17}}),
    ("many_epochs", "critical", losses(5), losses(5), {"epochs": 50, "is_pretrained": True}, {"epochs": 50}),
    (
        "gradient_spikes",
        "warning",
        losses(5, 5, 5, **{"train/grad_norm_spikes": 0}),
        losses(5, 5, 5, **{"train/grad_norm_spikes": 3}),
        {},
        {},
    ),
    (
        "gradient_spikes",
        "note",
        losses(5, 5, 5, **{"train/grad_norm_spikes": 0}),
        losses(5, 5, 5, **{"train/grad_norm_spikes": 2}),
        {},
        {},
    ),
    (
        "loss_spikes",
        "warning",
        losses(5, 5, 5, **{"train/loss_spikes": 0}),
        losses(5, 5, 5, **{"train/loss_spikes": 1}),
        {},
        {},
    ),
]


def found(records: Records, changes: Mapping[str, Any]) -> dict[str, Verdict]:
    panel = replay(replace(FACTS, **changes), records)
    return {verdict.what: verdict for verdict in panel.verdicts()}


@pytest.mark.parametrize(("what", "severity", "healthy", "bad", "facts", "bad_facts"), TABLE)
def test_a_rule_on_both_sides_of_its_threshold(what, severity, healthy, bad, facts, bad_facts):
    assert what not in found(healthy, facts)
    verdict = found(bad, bad_facts)[what]
    assert verdict.verdict == severity
    assert re.search(r"\d", verdict.evidence.words), "a verdict says its figures"
    assert verdict.since is not None


GROWN: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    # rule, figures of blocks before the first step, figures of a fault; what is to be done where it was there before
    ("dead_units", {"dead_units": (0, 0)}, {"dead_units": (0.9, 0)}, "model.initialization"),
    ("saturated_units", {"saturated_units": (0,)}, {"saturated_units": (0.9,)}, "model.initialization"),
    ("residual_growth", {"growth": (1, 2, 2)}, {"growth": (1, 2, 20)}, "model.initialization"),
    ("first_block", {"growth": (2,), "out_rms": (1,)}, {"growth": (200,), "out_rms": (200,)}, "smaller weights"),
    ("first_block", {"growth": (2,), "out_rms": (1,)}, {"growth": (200,), "out_rms": (2,)}, "larger embeddings"),
    ("gradient_factor", {"out_grad_norm": (1, 1)}, {"out_grad_norm": (1e-4, 1)}, "residual connections"),
    ("gradient_factor", {"out_grad_norm": (1, 1)}, {"out_grad_norm": (1e4, 1)}, "smaller weights"),
    (
        "saturated_attention",
        {"entropy_mean": (1,), "largest_logit": (1,)},
        {"entropy_mean": (0.01,), "largest_logit": (200,)},
        "smaller weights",
    ),
    ("large_attention_logits", {"largest_logit": (1,)}, {"largest_logit": (2000,)}, "smaller weights"),
]


@pytest.mark.parametrize(("what", "before", "after", "at_start"), GROWN)
def test_the_rate_is_blamed_for_what_came_in_training_alone(what, before, after, at_start):
    records = probes(10, **after)
    came = found([probes(**before)[0], *records], PROBED)[what].remedy
    assert came.startswith("lower train.learning_rate")
    assert "model." not in came
    was = found([probes(**after)[0], *records], PROBED)[what].remedy
    assert at_start in was
    assert "train." not in was
    assert found(records, PROBED)[what].remedy, "where nobody looked before the first step"


@pytest.mark.parametrize(
    ("what", "figures"), [("collapsed_router", {"load_most": (1, 4)}), ("router_entropy", {"router_entropy": (1, 1)})]
)
def test_losses_of_routers_that_outweigh_the_loss_are_to_be_lowered(what, figures):
    for added, begins in ((0.1, "raise train."), (62.0, "lower train.router_aux_loss_coef")):
        records = [{**one, **ROUTER} for one in probes(200, **figures)]
        assert found(records, {**MIXTURE, **weighed(added)})[what].remedy.startswith(begins)


def test_every_rule_is_in_the_table_and_says_a_remedy_and_a_source():
    assert {row[0] for row in TABLE} == {rule.what for rule in RULES}
    for rule in RULES:
        assert rule.remedy
        assert rule.source
        assert rule.kind in KINDS


def test_remedies_name_settings_that_exist():
    from pipeline.config import Config
    from pipeline.training.train_config import TrainConfig

    sections = set(Config.model_fields)
    for rule in RULES:
        for section, setting in re.findall(r"\b([a-z]+)\.([a-z_]+)", rule.remedy):
            assert section in sections, rule.what
            if section == "train":
                assert setting in TrainConfig.model_fields, rule.what


def test_a_frozen_router_and_an_undecided_one_have_remedies_of_their_own():
    frozen, undecided = (
        found(probes(200, router_entropy=(0.5, 0.01)), {}),
        found(probes(200, router_entropy=(1, 1)), {}),
    )
    assert frozen["router_entropy"].remedy.startswith("raise train.router_aux_loss_coef")
    assert undecided["router_entropy"].remedy == "raise train.learning_rate"


@pytest.mark.parametrize("highest", [8.0, 8.2])
def test_no_larger_rate_is_advised_where_the_loss_was_above_guessing(highest):
    """Where a rate is too large the loss rises first, and stays beside that of frequencies when the rate falls."""
    training = [7.9, *[highest] * 5, *[7.0] * 40]
    verdicts = found([*losses(*training), {"step": 500, "eval/loss": 7.0}], {})
    for what in ("no_better_than_frequencies", "nothing_learned"):
        assert ("lower train.learning_rate" in verdicts[what].remedy) == (highest > 8.1)
        assert ("three times as large" in verdicts[what].remedy) == (highest < 8.1)


def test_of_labels_far_from_unit_scale_the_units_are_to_be_mended():
    """A squared error of 1.7e12, of which the mean of the labels would leave 5.8e10."""
    facts = {**NUMBERS, "guess_loss": 1.75e12, "frequency_loss": 5.8e10}
    verdict = found(losses(*[1.7e12] * 90), facts)["no_better_than_frequencies"]
    assert "always saying the best constant costs 5.8e+10" in verdict.evidence.words
    assert "units" in verdict.remedy
    assert "train.learning_rate" not in verdict.remedy
    assert "units" in found(losses(*[4e12] * 9), facts)["loss_above_guessing"].remedy


@pytest.mark.parametrize(
    ("setting", "value", "usual"),
    [
        ("train.adam_epsilon", 1.0, "1e-08"),
        ("model.config.resid_pdrop", 0.9, "0.1"),
        ("train.router_aux_loss_coef", 100.0, "0.01"),
    ],
)
def test_a_setting_far_outside_of_what_is_usual_is_named_where_nothing_is_learned(setting, value, usual):
    stuck, facts = at_full_rate(*[7.99] * 9), {**FULL, "unusual": {setting: value}}
    advice = f"lower {setting}, which is {value:g}: {usual} is usual"
    assert found(stuck, facts)["no_better_than_frequencies"].remedy == advice
    assert "unusual" not in str(found(losses(*[5.0] * 30), facts)), "a model that learns may have it"
    remedy = found(probes(50, load_most=(2.9, 3.1)), {**MIXTURE, **facts})["collapsed_router"].remedy
    assert (remedy == advice) == (setting == "train.router_aux_loss_coef")


def test_weights_that_have_grown_to_a_multiple_ask_for_a_smaller_rate():
    records = [{**one, "train/loss": 7.0} for one in grown(1, *[2.5] * 14)]
    assert "lower train.learning_rate" in found(records, {})["no_better_than_frequencies"].remedy
    records = [{**one, "train/loss": 7.0} for one in grown(1, *[1.5] * 14)]
    assert "three times as large" in found(records, {})["no_better_than_frequencies"].remedy


def test_where_nothing_is_learned_what_broke_the_training_comes_first():
    """Weights are overwritten in the first steps alone; attention saturates later, and nothing is ever learned."""
    records = at_full_rate(*[7.95] * 30)
    for i, record in enumerate(records):
        figures = {"grad_norm": 1.0, "weight_norm": 1.0, "update_norm": 1.2 if i < 3 else 0.1}
        record |= {f"matrices/layers.0.a/{name}": value for name, value in figures.items()}
    for record in records[9:]:
        record |= {"attention/layers.0/entropy_mean": 0.001, "attention/layers.0/largest_logit": 1e6}
    verdicts = replay(FACTS, records).verdicts()
    assert next(one.what for one in verdicts if one.verdict == "critical") == "unstable_updates"
    assert {one.what: one for one in verdicts}["no_better_than_frequencies"].remedy == (
        "mend first unstable updates: lower train.learning_rate, or raise train.warmup_steps"
    )
    learned = [{**record, "train/loss": 8.0 - 0.1 * i} for i, record in enumerate(records)]
    verdict = {one.what: one for one in replay(FACTS, learned).verdicts()}["unstable_updates"]
    assert verdict.verdict == "note", "it is over, and the model learns"


FIGURES = ("weight_norm", "update_norm", "grad_norm")


def test_matrices_that_were_zero_at_first_are_no_measure_of_their_steps():
    """LoRA's B begins at 0: its second step is about as long as it is. Of A, which was drawn, it would be a fault."""
    for first, is_told in ((0.0, False), (1.0, True)):
        record = {f"matrices/layers.0.{name}.lora_A/{figure}": 9.0 for name in "qv" for figure in FIGURES}
        record |= {f"matrices/layers.0.{name}.lora_B/{figure}": 1.0 for name in "qv" for figure in FIGURES}
        record |= {f"matrices/layers.0.{name}.lora_A/update_norm": 0.01 for name in "qv"}
        record |= {f"matrices/layers.0.{name}.lora_B/update_norm": 1.9 for name in "qv"}
        start = {**record, **{f"matrices/layers.0.{name}.lora_B/weight_norm": first for name in "qv"}}
        records = [{"step": step, **(record if step else start)} for step in range(6)]
        assert ("unstable_updates" in found(records, {})) is is_told


def test_one_record_of_a_whole_training_is_no_flat_loss():
    """The mean over its steps, of which the validation loss is far below."""
    records = [*losses(7.1, every=100), validation(5.0, 100)]
    assert "no_better_than_frequencies" not in found(records, {"max_steps": 100})


def test_a_loss_of_few_labels_that_falls_back_from_a_spike_is_not_above_guessing():
    labels = {**LABELS, "guess_loss": 0.69, "frequency_loss": 0.69}
    assert "loss_above_guessing" not in found(losses(*[0.5] * 20, 1.1, 1.05, 1.0, 0.9, 0.8), labels)


def test_a_regression_that_falls_is_not_called_stuck():
    falling = at_full_rate(245, 235, 225, 215, 205, 190, 170, 150, 140)
    facts = {**NUMBERS, **ODD, "guess_loss": 250.0, "frequency_loss": 25.0, "max_steps": 160}
    assert "no_better_than_frequencies" not in found(falling, facts)


def test_a_norm_that_goes_up_and_down_is_told_once():
    panel, told = HealthPanel(FACTS), []
    for record in norms(*[60, 1, 60, 60, 1, 1, 60, 1, 60] * 12, clipped=1.0):
        told += [one.verdict for one in panel.add(record) if one.what == "always_clipped"]
    assert told == ["note"]


def test_one_odd_record_decides_nothing_and_a_fault_that_is_over_is_told_once():
    panel = HealthPanel(FACTS)
    told = []
    for record in losses(5, 5, 9, 5, 5, 5, 5, 9, 9, 9, 9, 9, 9, 5, 5, 5, 5, 5, 5, 5, 5):
        told += [(record["step"], v.what, v.verdict) for v in panel.add(record) if v.what == "loss_above_guessing"]
    assert [verdict for _, _, verdict in told] == ["critical", "healthy"]
    assert panel.levels()["health/loss"] == 0
    [verdict] = [one for one in panel.verdicts() if one.what == "loss_above_guessing"]
    assert (verdict.verdict, verdict.since) == ("note", 100)
    assert "is over" in verdict.evidence.words


def test_one_step_that_overwrites_the_weights_proves_it():
    panel = HealthPanel(FACTS)
    for record, ratio in zip(layers(), (1e-3, 1e-3, 11, 1e-3, 1e-3), strict=True):
        panel.add({**record, "matrices/layers.1.mlp/update_norm": ratio})
    assert panel.levels()["health/updates"] == 3


def test_levels_are_those_of_the_worst_verdict():
    panel = replay(FACTS, layers(ratios=(1e-3, 0.6)))
    assert panel.levels()["health/updates"] == 2
    assert panel.levels()["health/gradients"] == 0


def test_a_panel_that_saw_half_of_the_records_before_says_the_same():
    records = losses(*NOISY, *[6.0] * 9)
    whole, halves = HealthPanel(FACTS), replay(FACTS, records[:8])
    for record in records:
        whole.add(record)
    for record in records[8:]:
        halves.add(record)
    assert whole.verdicts() == halves.verdicts()


def test_memory_does_not_grow_with_the_records():
    panel = HealthPanel(FACTS)
    for step in range(5000):
        panel.add({"step": step, "train/loss": 5.0, "train/grad_norm": 1.0})
    assert len(panel._window.history) <= 512
    assert all(len(readings) <= 5 for readings in panel._readings.values())


def test_a_healthy_training_shows_the_figure_nearest_to_a_threshold():
    told = found(losses(*[5.0] * 30), {})
    assert told["loss"].verdict == "healthy"
    assert "5" in told["loss"].evidence.words
    assert told["gradients"].verdict == "unknown"
    assert "experts" not in told
    assert headline(told.values()) == "healthy"


def test_one_bad_record_is_no_figure_to_show_for_health():
    """What is called healthy has a healthy figure beside it, also where the last record alone passed the limit."""
    records = layers(ratios=(1e-3, 2e-3))
    records[-1] = {**layers(ratios=(1e-3, 0.6))[-1]}
    told = found(records, {})["updates"]
    assert told.verdict == "healthy"
    assert "0.002" in told.evidence.words
    assert "0.6" not in told.evidence.words


def test_the_headline_is_what_was_wrong_first_of_what_is_worst():
    """Updates that stall keep the loss where it is, and not the other way round."""
    late = {"kind": "loss", "what": "no_better", "verdict": "critical", "evidence": {"words": "late"}, "since": 60}
    early = {**late, "kind": "updates", "what": "stalled", "evidence": {"words": "early"}, "since": 6}
    note = {**late, "what": "spikes", "verdict": "note", "evidence": {"words": "first of all"}, "since": 0}
    result = {**late, "kind": "result", "what": "no_better", "evidence": {"words": "at the end"}, "since": None}
    told = verdicts_of([result, late, note, early])
    assert headline(told) == "critical: stalled: early"
    assert [one.evidence.words for one in by_severity(told)] == ["early", "late", "at the end", "first of all"]


def test_verdicts_survive_json_and_what_is_none_is_left_out():
    one = worst(found(losses(*[9.0] * 5), {}).values())
    assert one is not None
    assert Verdict.from_json(json.loads(json.dumps(one.as_json()))) == one
    for broken in (
        None,
        [],
        {},
        {"kind": "loss"},
        {**one.as_json(), "verdict": "fine"},
        {**one.as_json(), "evidence": 3},
    ):
        assert Verdict.from_json(broken) is None
