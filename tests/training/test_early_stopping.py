"""A training ends when its validation loss no longer falls: where transformers' callback ends one, and to the same bits
however often it was interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from harness import tells
from training.checkpointing.test_extending import extend, find
from training.tiny import SECTION, metrics, outcome, run_train, train_in_child, train_in_children
from transformers import EarlyStoppingCallback, TrainerControl, TrainerState

from pipeline.training.checkpointing.counters import Counters
from pipeline.training.due import Due
from pipeline.training.early_stopping import early_end, early_end_in_words, ends_early, note_validation
from pipeline.training.train_config import TrainConfig

# At this rate the validation loss of GPT-2 jumps about.
EARLY = {
    "max_steps": 40, "eval_steps": 2, "early_stopping_patience": 2, "learning_rate": 0.05, "warmup_steps": 0,
    "lr_scheduler_type": "constant",
}  # fmt: skip


def decide(losses: list[float], patience: int, threshold: float) -> tuple[int | None, Counters, TrainConfig]:
    """The validation after which our training ends, one every 10 steps of 1000."""
    changes = {"early_stopping_patience": patience, "early_stopping_threshold": threshold}
    section = TrainConfig(**{**SECTION, "max_steps": 1000, "eval_steps": 10, **changes})
    at = Counters()
    for number, loss in enumerate(losses, start=1):
        at.step = 10 * number
        note_validation(Due(section, 1000), at, loss)
        if ends_early(section, at):
            return number, at, section
    return None, at, section


def decide_as_transformers(losses: list[float], patience: int, threshold: float) -> int | None:
    """The same by transformers' callback; the best metric as Trainer._determine_best_metric keeps it."""
    callback = EarlyStoppingCallback(patience, threshold)
    arguments = SimpleNamespace(metric_for_best_model="eval_loss", greater_is_better=False)
    state, control = TrainerState(), TrainerControl()
    for number, loss in enumerate(losses, start=1):
        callback.on_evaluate(arguments, state, control, {"eval_loss": loss})
        if control.should_training_stop:
            return number
        if state.best_metric is None or loss < state.best_metric:
            state.best_metric = loss
    return None


def test_it_ends_where_transformers_ends():
    random = np.random.default_rng(0)
    ends = []
    for _ in range(500):
        patience, threshold = int(random.integers(1, 5)), float(random.choice([0.0, 0.0, 0.01, 0.3]))
        falling = np.linspace(3, random.uniform(1, 3), 20) + random.normal(0, random.choice([0, 0.01, 0.3]), 20)
        losses = falling.round(int(random.choice([1, 3]))).tolist()
        ends.append(decide(losses, patience, threshold)[0])
        assert ends[-1] == decide_as_transformers(losses, patience, threshold), (losses, patience, threshold)
    assert ends.count(None) > 50  # both kinds of training were among them
    assert len(set(ends)) > 10


def test_a_loss_that_creeps_down_by_less_than_the_threshold_is_no_better():
    """Each is compared with the lowest before it, also where that was not lower by enough."""
    assert decide([2.0, 1.95, 1.9, 1.85], 3, 0.08)[0] == 4
    assert decide([2.0, 1.95, 1.9, 1.85], 3, 0.04)[0] is None
    assert decide([2.0, 2.0], 1, 0.0)[0] == 2


def test_where_and_why_it_ended_is_told():
    _, at, section = decide([2.0, 1.5, 1.49, 1.6], 2, 0.05)
    assert early_end(section, at, 1000) == {
        "step": 40, "max_steps": 1000, "lowest_loss": 1.49, "lowest_loss_step": 30,
        "validations_without_improvement": 2,
    }  # fmt: skip
    words = early_end_in_words(section, at, 1000)
    assert tells(words, "after step 40 of 1,000", "2 validations", "more than 0.05", "lowest is 1.49, of step 30")
    _, at, section = decide([2.0, 2.1], 1, 0.0)
    assert "in 1 validation the loss did not fall; the lowest is 2, of step 10" in early_end_in_words(section, at, 1000)


def test_the_validation_of_the_last_step_decides_nothing():
    section = TrainConfig(**{**SECTION, "early_stopping_patience": 1})
    at = Counters(step=6)
    note_validation(Due(section, 12), at, 1.0)
    at.step = 12
    note_validation(Due(section, 12), at, 2.0)
    assert not ends_early(section, at)
    assert early_end(section, at, 12) is None


@pytest.fixture(scope="module")
def whole(gpt2_inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert train_in_child(gpt2_inputs, folder, **EARLY) == 0
    return folder


def test_a_training_ends_early_and_exports_its_best(gpt2_inputs, whole, tmp_path):
    training = json.loads((whole / "output0/training.json").read_text())
    losses = {line["step"]: line["eval/loss"] for line in metrics(whole / "output0") if "eval/loss" in line}
    number = decide_as_transformers(list(losses.values()), 2, 0.0)
    best = min(losses, key=losses.__getitem__)
    assert number == len(losses) < 20
    assert training["steps"] == 2 * number
    assert training["stopped_early"] == {
        "step": 2 * number, "max_steps": 40, "lowest_loss": losses[best], "lowest_loss_step": best,
        "validations_without_improvement": 2,
    }  # fmt: skip
    assert (training["export"], training["exported_step"]) == ("best", best)
    # The weights are those that an undisturbed training has there, and each validation has its training loss.
    run_train(gpt2_inputs, tmp_path, max_steps=best, learning_rate=0.05, warmup_steps=0, lr_scheduler_type="constant")
    assert outcome(tmp_path, "output")["model"] == outcome(whole, "output0")["model"]
    assert losses.keys() <= {line["step"] for line in metrics(whole / "output0") if "train/loss" in line}


@pytest.mark.parametrize(
    ("hit", "code"),
    [
        (("forward", 15, "SIGKILL"), -9),
        (("validate", 4, "SIGINT"), 75),
        (("validate", 5, "SIGTERM"), 75),  # the one that ends it
        (("snapshot", 5, "SIGKILL"), -9),
        (("saved", 5, "SIGKILL"), -9),  # that of the end
    ],
)
def test_interrupted_it_ends_at_the_same_step_in_the_same_bits(gpt2_inputs, whole, tmp_path, hit, code):
    assert train_in_child(gpt2_inputs, tmp_path, hit, **EARLY) == code
    assert train_in_child(gpt2_inputs, tmp_path, **EARLY) == 0
    assert outcome(tmp_path, "output1") == outcome(whole, "output0")


def test_several_processes_decide_alike_though_one_is_killed(gpt2_inputs, tmp_path):
    assert -9 in train_in_children(gpt2_inputs, tmp_path, 2, ("validate", 3, "SIGKILL"), at=1, **EARLY)
    assert train_in_children(gpt2_inputs, tmp_path, 2, **EARLY) == [0, 0]
    losses = [line["eval/loss"] for line in metrics(tmp_path / "output1") if "eval/loss" in line]
    assert decide_as_transformers(losses, 2, 0.0) == len(losses) < 20
    ended = json.loads((tmp_path / "output1/training.json").read_text())["stopped_early"]
    assert (ended["step"], ended["lowest_loss"]) == (2 * len(losses), min(losses))


@pytest.mark.parametrize(("name", "value"), [("max_steps", 60), ("early_stopping_patience", 4)])
def test_one_that_may_go_on_goes_on_from_it(gpt2_inputs, whole, tmp_path, name, value):
    """With more steps it has ended as well; with more patience it has not."""
    longer = EARLY | {name: value}
    assert extend(whole / "work", tmp_path / "long", {name: EARLY[name]}, **longer) == 10
    run_train(gpt2_inputs, tmp_path / "long", **longer)
    run_train(gpt2_inputs, tmp_path / "whole", **longer)
    long, undisturbed = (outcome(tmp_path / one, "output") for one in ("long", "whole"))
    assert long == undisturbed
    steps = json.loads(long["training"])["steps"]
    assert steps == 10 if name == "max_steps" else steps > 10


def test_more_patience_goes_on_whatever_the_schedule(gpt2_inputs, tmp_path):
    """Rates that depend on the number of steps are the same where that is."""
    cosine = EARLY | {"lr_scheduler_type": "cosine", "early_stopping_patience": 1}
    run_train(gpt2_inputs, tmp_path / "short", **cosine)
    ended = json.loads((tmp_path / "short/output/training.json").read_text())["stopped_early"]["step"]
    patient = cosine | {"early_stopping_patience": 2}
    changed = {"early_stopping_patience": 1}
    assert extend(tmp_path / "short" / "work", tmp_path / "long", changed, **patient) == ended
    run_train(gpt2_inputs, tmp_path / "long", **patient)
    run_train(gpt2_inputs, tmp_path / "whole", **patient)
    assert outcome(tmp_path / "long", "output") == outcome(tmp_path / "whole", "output")


def test_one_whose_patience_ended_with_its_last_step_can_be_longer(gpt2_inputs, whole, tmp_path):
    short = EARLY | {"max_steps": 10, "logging_steps": 4}
    run_train(gpt2_inputs, tmp_path / "short", **short)
    assert json.loads((tmp_path / "short/output/training.json").read_text())["stopped_early"] is None
    longer = EARLY | {"logging_steps": 4}
    assert extend(tmp_path / "short" / "work", tmp_path / "long", {"max_steps": 10}, **longer) == 10
    run_train(gpt2_inputs, tmp_path / "long", **longer)
    run_train(gpt2_inputs, tmp_path / "whole", **longer)
    assert outcome(tmp_path / "long", "output") == outcome(tmp_path / "whole", "output")


def test_less_patience_begins_anew(whole):
    less = EARLY | {"early_stopping_patience": 1}
    found = find(whole / "work", {"early_stopping_patience": 2}, **less)
    assert found == "with a smaller train.early_stopping_patience it may have ended before"


@pytest.mark.parametrize("export", ["last", "ema"])
def test_which_weights_are_exported_is_said(gpt2_inputs, tmp_path, export):
    from training.tiny import context_for

    from pipeline.stages import train

    section = TrainConfig(**{**SECTION, **EARLY, "export": export, "ema_decay": 0.9})
    context = context_for(section, gpt2_inputs, tmp_path / "output", tmp_path / "work")
    summary = train.STAGE.run(context)
    assert (summary["exported_step"], summary["steps"]) == (10, 10)
    said: str = context.progress._stream.getvalue()
    assert f"test: {summary['stopped_early']['why']}\n" in said
    assert f" weights of step 10 become the artifact, as train.export: {export} says; with export: best it" in said
    assert "would be those of step 6, of the lowest validation loss\n" in said


def test_a_loss_that_is_not_finite_is_no_end_but_an_error(gpt2_inputs, tmp_path, monkeypatch):
    from pipeline.errors import DivergedError
    from pipeline.training import loop

    monkeypatch.setattr(loop, "validate", lambda *_: {"eval/loss": float("nan")})
    with pytest.raises(DivergedError, match="eval/loss is nan at step 2"):
        run_train(gpt2_inputs, tmp_path, **EARLY)


def settings(**changes: Any) -> dict[str, Any]:
    return TrainConfig(**{**SECTION, **changes}).of_key()


def test_off_it_leaves_the_identity_as_it_was_and_on_what_decides_belongs_to_it():
    plain = settings()
    assert not {"early_stopping_patience", "early_stopping_threshold", "eval_steps", "eval_batches"} & plain.keys()
    assert settings(eval_steps=3, early_stopping_threshold=0) == plain
    on = {"early_stopping_patience": 3, "export": "last"}
    assert settings(**on) == plain | {"early_stopping_patience": 3, "eval_steps": 6, "eval_batches": 2}
    assert settings(**on, early_stopping_threshold=0.1)["early_stopping_threshold"] == 0.1
    # Which validations there are decides which is the best, too.
    assert settings(export="best") == plain | {"export": "best", "eval_steps": 6, "eval_batches": 2}
