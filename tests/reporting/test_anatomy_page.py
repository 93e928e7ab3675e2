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
from pipeline.reporting.anatomy_words import example_lines, figure, summary_lines, update_lines, update_meaning
from pipeline.reporting.formats import real
from pipeline.reporting.html import render_report
from pipeline.reporting.part_rows import multipliers_of, rows_of
from pipeline.reporting.report_config import ReportConfig
from pipeline.reporting.run_data import read_run
from pipeline.telemetry.anatomy import Anatomy, Passed
from pipeline.telemetry.update_by_hand import work_out


def in_powers(value: float, digits: int = 5) -> str:
    """With a power of ten, as the page has it."""
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
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
    for number in [update.weight, update.by_hand, update.by_optimizer]:
        assert in_powers(number) in text, number
    for number in [update.gradient, update.state["exp_avg"], update.state["exp_avg_sq"]]:  # which may nearly cancel
        assert in_powers(number, 8) in text, number
    for name, number in update.worked.items():
        assert in_powers(number) in text or name == "t", name
    assert "(1 − 0.9³²⁶)" in text
    assert "rate η\xa0=\xa00.00293, which a schedule changes from step to step: it is that of step 1,301" in text
    assert real(step.predicted_change, 3) in text
    assert f"{anatomy.differences[0].loss_up:.10f}" in text
    assert figure(math.prod(0.93 + layer / 100 for layer in range(12))) in text, "over all blocks"


ANSWERS = {
    "what is the forward pass": "Forward pass: 128 tokens, pieces of text, go through the network and its 12 "
    "blocks, one after the other. Out come 4,096 scores for every place in the text",
    "what does the batch cost": "The loss of the batch is the mean over the 128 targets: 4.9571 nats.",
    "is that good": "here 4.9571. Guessing evenly would cost 8.3178, and being sure of every right answer 0: the right "
    "token typically gets a probability of 1 in 142, by guessing 1 in 4,096. With the router's losses on top, training "
    "minimizes 5.0045.",
    "how is a loss computed": "The loss of a target is −log p, where p is the probability that the model gave to the "
    "right token. It is 0 if the model was sure of it, and grows as p falls",
    "what is softmax": "it takes the exponential of each, which is positive, and divides by the sum of all",
    "what is a nat": "a loss of 1 nat is a probability of exp(−1) = 37%",
    "what is a gradient": "how much the loss would change for each unit by which that number grows",
    "what is meant by a name": "A weight is named by its matrix and its place in it, [row, column].",
    "what is the chain rule": "the slope at what goes into a part is the slope at what comes out of it, times how "
    "strongly the one moves the other",
    "what became of the gradient on its way back": "over all 12 blocks 0.98439¹² = 0.82800: on the way to the first "
    "block the gradient shrinks to 0.828 times its length, most of all in layers.0 (× 0.930)",
    "what did clipping do": "That is above the limit of 1 (train.max_grad_norm), so every slope is multiplied by 1 / "
    "1.3913 = 0.71875",
    "what are m and v": "AdamW (Adam with weight decay) remembers two numbers for each weight: m, a running mean of "
    "its slopes g (β₁ = 0.9 of the old m and 0.1 of the new slope), and v, a running mean of their squares",
    "what does weight decay do": "Weight decay also pulls a weight towards 0, by η\xa0λ\xa0w, apart from the slope. "
    "Here λ = 0.1",
    "what did the optimizer do to a weight": "So this weight goes from 0.085300 to 0.083855, by −0.0014452. The "
    "running mean m is positive (4.0037×10⁻⁴ → 4.3546×10⁻³), so it is lowered.",
    "what did it bring": "the same batch costs 4.6637 in place of 5.0045: −0.341",
    "what does the first half of the network know": "layers.0 lowers the loss most: by 3.54, of all "
    "blocks' 4.92. A first loss above that of guessing (8.3178) is no fault",
}


@pytest.mark.parametrize("question", ANSWERS)
def test_who_never_trained_a_model_finds_the_answer(question: str) -> None:
    """With this model's numbers, in a sentence."""
    text = unescape(re.sub("<[^>]+>", "", render_anatomy(fake_anatomy(1300), "demo")))
    assert ANSWERS[question] in text


def test_why_a_weight_moves_as_it_does() -> None:
    update = fake_anatomy(10).update.updates[0]
    told = "So this weight goes from 0.085300 to 0.083855, by −0.0014452. "
    against = replace(update, gradient=-update.gradient)
    assert update_meaning(against).endswith("so it is lowered, although this batch's own slope is negative.")
    turned = replace(update, state={**update.state, "exp_avg": -0.0004})
    assert update_meaning(turned) == (
        f"{told}This batch's positive slope turned the running mean m positive (−4.0000×10⁻⁴ → 4.3546×10⁻³), so the "
        "weight is lowered."
    )
    decayed = replace(update, worked={**update.worked, "mean": -0.0001})
    assert update_meaning(decayed) == f"{told}It is lowered, for the decay outweighs the running mean m."
    first = replace(update, state={})
    assert update_meaning(first) == f"{told}The running mean m is positive, so it is lowered."
    plain = replace(update, state={}, worked={"with_decay": 0.04})
    assert update_meaning(plain) == f"{told}The slope is positive, so it is lowered."
    assert update_meaning(replace(update, by_optimizer=0.0)) == "So this weight stays at 0.085300."
    momentum = fake_anatomy(10, formula="sgd").update.updates[0]
    assert "The momentum b is positive (0.032100 → 0.069686)" in update_meaning(momentum)


def calculated(numbers: str) -> float:
    """What a pocket calculator makes of a line."""
    plain = numbers.replace("−", "-").replace("\xa0", " ")
    raised = re.compile("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+")
    digits = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    plain = raised.sub(lambda found: f"**({found[0].translate(digits)})", plain).replace("×", "*")
    return eval(re.sub(r"√(\([^()]*(?:\([^()]*\))?[^()]*\)|[\d.]+)", r"math.sqrt(\1)", plain))


@pytest.mark.parametrize("before", [-0.00040037, -0.0044378, 0.00040037])
def test_a_pocket_calculator_finds_each_line_of_an_update(before: float) -> None:
    """Also where the old mean and the new slope nearly cancel."""
    group = {"lr": 0.00293, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    state, slope = {"exp_avg": before, "exp_avg_sq": 1.22924321e-6, "step": 25.0}, 0.03994312
    worked = work_out("adamw", group, state, 0.0853, slope)
    update = replace(
        fake_anatomy(10).update.updates[0], state=state, gradient=slope, worked=worked.steps, by_hand=worked.change
    )
    for line in update_lines(update):
        assert calculated(line.numbers) == pytest.approx(calculated(line.result), rel=1e-4), line


def scaled() -> Anatomy:
    """With multipliers behind the embedding and the head, and norms behind attention and mlp."""
    anatomy = fake_anatomy(10, num_layers=2)
    stations, before = [], anatomy.stations[0]
    for one in anatomy.stations:
        if one.kind in ("attention", "mlp"):
            one = replace(one, normed=Passed(1.01, 0.0321))
        elif one.kind == "block":
            scale = 4.0 if before.kind == "embedding" else 1.0
            one = replace(one, given=Passed(before.rms * scale, before.gradient_norm / scale), times=1.0)
            before = one
        stations.append(one)
    head = stations[-1]
    loss = replace(anatomy.loss, outputs_rms=head.rms * 0.5, gradient_norm=head.gradient_norm * 2)
    return replace(anatomy, stations=stations, loss=loss)


def test_what_stands_between_the_parts_is_in_the_table_and_told() -> None:
    anatomy = scaled()
    names = [row.name for row in rows_of(anatomy)]
    ends = [f"{part}{end}" for part in (".self_attn", ".mlp") for end in ("", ", normed")]
    first, second = ([f"layers.{layer}{end}" for end in (*ends, "")] for layer in (0, 1))
    assert names == ["embed_tokens", "into layers.0", *first, *second, "norm", "lm_head", "outputs"]
    assert [(one.before, one.after, round(one.factor, 6)) for one in multipliers_of(anatomy)] == [
        ("embed_tokens", "layers.0", 4.0), ("lm_head", "the loss", 0.5)
    ]  # fmt: skip
    page = unescape(render_anatomy(anatomy, "demo"))
    assert (
        "This architecture multiplies all numbers from embed_tokens to layers.0 by 4.0000, and from lm_head to the"
        in page
    )
    assert "Here one also follows attention and mlp: what is added is in the rows “normed”." in page
    plain = fake_anatomy(10)
    assert [row.name for row in rows_of(plain)] == [one.name for one in plain.stations], "an older record"
    assert not multipliers_of(plain)
    assert "architecture multiplies" not in render_anatomy(plain, "demo")


def test_what_is_no_multiplier_is_none() -> None:
    """As where positions are added to the embedding: sizes change, but the gradient passes whole."""
    anatomy = scaled()
    stations = [replace(one, given=Passed(0.3, 0.03)) if one.name == "layers.0" else one for one in anatomy.stations]
    other = replace(anatomy, stations=stations)
    assert "into layers.0" in [row.name for row in rows_of(other)]
    assert [one.before for one in multipliers_of(other)] == ["lm_head"]


def test_a_block_that_is_no_sum_is_not_said_to_add() -> None:
    anatomy = scaled()
    stations = [replace(one, times=None) if one.kind == "block" else one for one in anatomy.stations]
    page = render_anatomy(replace(anatomy, stations=stations), "demo")
    assert "blocks adds to" not in page
    assert "passes it unchanged" not in page
    stations = [replace(one, times=0.22) if one.kind == "block" else one for one in anatomy.stations]
    assert "What is added is first multiplied by 0.22000." in render_anatomy(
        replace(anatomy, stations=stations), "demo"
    )


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
