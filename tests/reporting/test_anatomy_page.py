"""The page about a step says what its record says, in the words of its task and optimizer."""

# ruff: noqa: RUF001  (minus and times as in the formulas)
from __future__ import annotations

import math
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from reporting.fake_run import fake_anatomy, make_run

from pipeline.reporting.anatomy_page import render_anatomy
from pipeline.reporting.anatomy_words import example_lines, figure, summary_lines, update_meaning
from pipeline.reporting.formats import real
from pipeline.reporting.html import render_report
from pipeline.reporting.report_config import ReportConfig
from pipeline.reporting.run_data import read_run


def in_powers(value: float) -> str:
    """With a power of ten, as the page has it."""
    mantissa, exponent = f"{value:.4e}".split("e")
    return f"{mantissa}×10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}".replace("-", "−")


@pytest.mark.parametrize("task", ["causal_lm", "classification", "regression"])
def test_the_page_says_the_numbers_of_the_record(task: str) -> None:
    anatomy = fake_anatomy(1300, task=task)
    text = unescape(render_anatomy(anatomy, "demo"))
    for station in anatomy.stations:
        assert station.name in text
        assert station.loss_here is None or figure(station.loss_here) in text
        for value in (station.rms, station.largest, station.gradient_norm, station.factor, station.entropy):
            assert value is None or real(value, 3) in text
    loss, update, step = anatomy.loss, anatomy.update.updates[0], anatomy.update
    numbers = [loss.by_hand, loss.objective, loss.by_torch, loss.parts["router"], step.after, step.clip.norm]
    numbers += [step.clip.factor, update.weight, update.gradient]
    numbers += [anatomy.differences[0].autograd, anatomy.differences[0].central, loss.examples[0].by_hand]
    numbers += [loss.examples[0].by_autograd, loss.examples[0].output, loss.examples[0].loss]
    for number in numbers:
        assert figure(number) in text, number
    # The calculation has numbers below a thousandth, so all of it has powers of ten.
    for number in [update.weight, update.gradient, update.by_hand, update.by_optimizer, *update.state.values()][:-1]:
        assert in_powers(number) in text, number
    for name, number in update.worked.items():
        assert in_powers(number) in text or name == "t", name
    assert "(1 − 0.9³²⁶)" in text
    assert "rate η\xa0=\xa00.00293, which a schedule changes from step to step: it is that of step 1,301" in text
    assert real(step.predicted_change, 3) in text
    assert f"{anatomy.differences[0].loss_up:.10f}" in text
    assert figure(math.prod(0.93 + layer / 100 for layer in range(12))) in text, "over all blocks"


ANSWERS = {
    "what is the forward pass": "Forward pass: 128 tokens, pieces of text, go through the 39 parts of the network, one "
    "after the other. Out come 4,096 scores for every place in the text",
    "what does the batch cost": "The loss of the batch is the mean over the 128 targets: 4.9571 nats.",
    "how is a loss computed": "The loss of a target is −log p, where p is the probability that the model gave to the "
    "token that is right",
    "what is softmax": "it takes the exponential of each, which is positive, and divides by the sum of all",
    "what is a nat": "a loss of 1 nat is a probability of exp(−1) = 37%",
    "what is a gradient": "how much the loss would change for each unit by which that number grows",
    "what is meant by a name": "They are named by their matrix and their place in it: row and column.",
    "what is the chain rule": "the slope at what goes into a part is the slope at what comes out of it, times how "
    "strongly the one moves the other",
    "what became of the gradient on its way back": "over all 12 blocks 0.98439¹² = 0.82800: on the way to the first "
    "block the gradient shrinks to 0.828 times its length, most of all in layers.0 (× 0.930)",
    "what did clipping do": "That is above the limit of 1 (train.max_grad_norm), so every slope is multiplied by 1 / "
    "1.3913 = 0.71875",
    "what are m and v": "Adam remembers two numbers for each weight: m, a running mean of its slopes g (β₁ = 0.9 of "
    "the old m and 0.1 of the new slope), and v, a running mean of their squares (with β₂ = 0.95)",
    "what does weight decay do": "Weight decay also pulls a weight towards 0, by η λ w, apart from the slope. Here λ = "
    "0.1",
    "what did the optimizer do to a weight": "So this weight goes from 0.085300 to 0.083855, by −0.0014452, "
    "0.493 times the learning rate. Its gradient is positive: a larger weight would make the loss larger, so it is "
    "made smaller.",
    "what did it bring": "the same batch costs 4.6637 in place of 5.0045: −0.341",
    "what does the first half of the network know": "Read straight from the embedding the loss would be 9.8765, after "
    "layers.0 6.3321",
}


@pytest.mark.parametrize("question", ANSWERS)
def test_who_never_trained_a_model_finds_the_answer(question: str) -> None:
    """With this model's numbers, in a sentence."""
    text = unescape(re.sub("<[^>]+>", "", render_anatomy(fake_anatomy(1300), "demo")))
    assert ANSWERS[question] in text


def test_what_the_optimizer_remembers_may_outweigh_the_gradient() -> None:
    update = fake_anatomy(10).update.updates[0]
    against = replace(update, gradient=-update.gradient)
    assert "still it is made smaller, for what the optimizer remembers" in update_meaning(against)
    assert update_meaning(replace(update, by_optimizer=0.0)) == "So this weight stays at 0.085300."


@pytest.mark.parametrize(
    ("settings", "formula"),
    [
        ({}, ("(p − 1) / n", "(0.0069501 − 1) / 128")),
        ({"label_smoothing_factor": 0.1}, ("(p − (1 − s + s / C)) / n", "(0.0069501 − 0.90002) / 128")),
        (
            {"z_loss_coef": 1e-4},
            ("(p (1 + 2 c log Σⱼ exp(zⱼ)) − 1) / n", "(0.0069501 × (1 + 2 × 0.0001 × 8.9267) − 1) / 128"),
        ),
    ],
)
def test_the_slope_at_a_score_has_the_settings_in_it(settings: dict[str, float], formula: tuple[str, str]) -> None:
    loss = replace(fake_anatomy(10).loss, settings=settings)
    [line] = [one for one in example_lines(loss, loss.examples[0], 128) if one.name == "gradient, by hand"]
    assert (line.formula, line.numbers) == formula


def test_an_error_of_a_number_below_zero_has_brackets() -> None:
    loss = fake_anatomy(10, task="regression").loss
    lines = example_lines(loss, replace(loss.examples[0], wanted=-1.5), 4)
    assert [(one.numbers, one.result) for one in lines[:1]] == [("3.9577 − (−1.5)", "5.4577")]
    lines = example_lines(loss, replace(loss.examples[0], wanted=4.0), 4)
    assert [one.numbers for one in lines[:3]] == ["3.9577 − 4", "(−0.042300)²", "2 × (−0.042300) / 4"]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("causal_lm", "log Σ<sub>j</sub> exp(z<sub>j</sub>) − z<sub>target</sub>"),
        ("classification", "Of each of the 128 documents the model is to tell the class, its target."),
        ("regression", "loss = (ŷ − y)²"),
    ],
)
def test_the_formula_is_that_of_the_task(task: str, words: str) -> None:
    page = render_anatomy(fake_anatomy(10, task=task), "demo")
    assert words in page
    assert ("softmax" in page) == (task != "regression")


@pytest.mark.parametrize(
    ("formula", "words"),
    [("adamw", "η m̂ / (√v̂ + ε)"), ("sgd", "μ b + (1 − τ) g"), ("", "−η sign(β₁ m + (1 − β₁) g)")],
)
def test_the_update_is_told_by_the_optimizers_formula(formula: str, words: str) -> None:
    assert words in render_anatomy(fake_anatomy(10, formula=formula), "demo")


def test_text_stays_text_and_nothing_comes_from_elsewhere() -> None:
    page = render_anatomy(fake_anatomy(10), "<i>demo</i>")
    assert "<b>the</b>" not in page
    assert "<i>demo" not in page
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")
    assert len(page.encode()) < 100_000


def test_deep_networks_are_drawn_in_part_and_told_whole() -> None:
    page = render_anatomy(fake_anatomy(10, num_layers=96), "demo")
    assert "parts are left out" in page
    assert all(f"layers.{layer}.mlp" in page for layer in range(96))


def test_the_terminal_gets_it_in_a_few_lines() -> None:
    lines = summary_lines(fake_anatomy(10), "demo")
    assert len(lines) == 6
    assert all(len(line) < 160 for line in lines)
    assert "4.9571" in lines[1]
    assert "by hand the same to 1.3 steps of float32" in lines[4]


def test_the_report_has_the_first_a_middle_and_the_last_step(tmp_path: Path) -> None:
    folders = make_run(tmp_path, 300)
    page = render_report(read_run(folders, ReportConfig()))
    told = re.findall(r"<summary>((?:Before|After).*?)</summary>", page)
    assert told == ["Before the first step", "After step 100", "After step 300"]
    for name in ("step-00000000.json", "step-00000100.json"):
        (folders["train"] / "anatomy" / name).write_text("{}")
    page = render_report(read_run(folders, ReportConfig()))
    assert re.findall(r"<summary>((?:Before|After).*?)</summary>", page)[0] == "After step 10", (
        "what is damaged is none"
    )
    for path in (folders["train"] / "anatomy").iterdir():
        path.unlink()
    page = render_report(read_run(folders, ReportConfig()))
    assert "This training recorded no anatomy. One does whose model has at most 50.0M parameters" in page
