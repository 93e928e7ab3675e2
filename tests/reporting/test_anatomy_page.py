"""The page about a step says what its record says, in the words of its task and optimizer."""

# ruff: noqa: RUF001  (minus and times as in the formulas)
from __future__ import annotations

import math
import re
from html import unescape
from pathlib import Path

import pytest
from reporting.fake_run import fake_anatomy, make_run

from pipeline.reporting.anatomy_page import render_anatomy
from pipeline.reporting.anatomy_words import figure, summary_lines
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
    numbers += [step.clip.factor, step.learning_rate, update.weight, update.gradient]
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
    assert real(step.predicted_change, 3) in text
    assert f"{anatomy.differences[0].loss_up:.10f}" in text
    assert real(math.prod(0.93 + layer / 100 for layer in range(12)), 3) in text, "over all blocks"


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
