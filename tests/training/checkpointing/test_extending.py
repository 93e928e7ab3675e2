"""A training that goes on from a shorter or longer one of its kind ends in the bits and records of one that did not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training.tiny import SECTION, outcome, run_train, train_in_child, train_in_children

from pipeline.training.checkpointing.checkpoints import checkpoint_of
from pipeline.training.checkpointing.extending import adopt, find_checkpoint
from pipeline.training.train_config import TrainConfig

NUM_SEQUENCES, TARGET_TOKENS = 27, 420
CONSTANT = {"lr_scheduler_type": "constant", "ema_decay": 0.9, "export": "ema"}
STABLE = {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 3}}


@pytest.fixture(scope="module")
def whole(gpt2_inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole")
    assert train_in_child(gpt2_inputs, folder, **CONSTANT) == 0
    return outcome(folder, "output0")


def find(work: Path, earlier: dict[str, Any], **changes: Any) -> Path | str:
    section, before = (TrainConfig(**{**SECTION, **values}) for values in (changes, {**changes, **earlier}))
    return find_checkpoint(section, before, NUM_SEQUENCES, TARGET_TOKENS, work)


def extend(work: Path, folder: Path, earlier: dict[str, Any], **changes: Any) -> int:
    """Begin a work folder in `folder` by that of an earlier training; returns the step of its checkpoint."""
    checkpoint = find(work, earlier, **changes)
    assert isinstance(checkpoint, Path), checkpoint
    adopt(checkpoint, folder / "work")
    return int(checkpoint.name.removeprefix("step-"))


def test_a_longer_training_is_that_of_a_whole_one_though_killed(gpt2_inputs, whole, tmp_path):
    """Of step 7, where the shorter one ends, the whole one has neither a record nor a validation."""
    short, long = tmp_path / "short", tmp_path / "long"
    short.mkdir(), long.mkdir()
    assert train_in_child(gpt2_inputs, short, **CONSTANT | {"max_steps": 7}) == 0
    before = outcome(short, "output0")
    assert extend(short / "work", long, {"max_steps": 7}, **CONSTANT) == 7
    assert train_in_child(gpt2_inputs, long, ("forward", 5, "SIGKILL"), **CONSTANT) == -9
    assert train_in_child(gpt2_inputs, long, **CONSTANT) == 0
    assert outcome(long, "output1") == whole
    assert outcome(short, "output0") == before
    assert before["metrics"][-1]["step"] == 7


def test_stopped_while_it_validates_at_its_end_a_training_can_be_longer(gpt2_inputs, whole, tmp_path):
    short, long = tmp_path / "short", tmp_path / "long"
    short.mkdir(), long.mkdir()
    assert train_in_child(gpt2_inputs, short, ("validate", 2, "SIGINT"), **CONSTANT | {"max_steps": 9}) == 75
    assert extend(short / "work", long, {"max_steps": 9}, **CONSTANT) == 9
    assert train_in_child(gpt2_inputs, long, **CONSTANT) == 0
    assert outcome(long, "output0") == whole


@pytest.mark.parametrize(
    ("changes", "earlier", "step"),
    [
        (CONSTANT | {"eval_steps": 4}, {"max_steps": 8}, 8),  # a validation is due there, a record is not
        # 8 steps, of which 5 are before its decay
        (STABLE | {"save_total_limit": 1}, {"max_steps": None, "num_train_epochs": 1.1}, 5),
    ],
)
def test_a_longer_training_is_that_of_a_whole_one(gpt2_inputs, tmp_path, changes, earlier, step):
    run_train(gpt2_inputs, tmp_path / "short", **changes | earlier)
    assert extend(tmp_path / "short" / "work", tmp_path / "long", earlier, **changes) == step
    run_train(gpt2_inputs, tmp_path / "long", **changes)
    run_train(gpt2_inputs, tmp_path / "whole", **changes)
    assert outcome(tmp_path / "long", "output") == outcome(tmp_path / "whole", "output")


@pytest.mark.slow
def test_in_several_processes(gpt2_inputs, tmp_path):
    short, long, undisturbed = (tmp_path / name for name in ("short", "long", "undisturbed"))
    for folder in (short, long, undisturbed):
        folder.mkdir()
    assert train_in_children(gpt2_inputs, short, 2, **CONSTANT | {"max_steps": 7}) == [0, 0]
    assert extend(short / "work", long, {"max_steps": 7}, **CONSTANT) == 7
    assert train_in_children(gpt2_inputs, long, 2, **CONSTANT) == [0, 0]
    assert train_in_children(gpt2_inputs, undisturbed, 2, **CONSTANT) == [0, 0]
    assert outcome(long, "output0") == outcome(undisturbed, "output0")


def checkpoints(work: Path, best: int | None, *steps: int) -> Path:
    for step in steps:
        folder = checkpoint_of(work, step)
        folder.mkdir(parents=True)
        number = "null" if best is None else str(best)
        (folder / "state.json").write_text(f'{{"counters": {{"best_step": {number}}}}}')
    return work


@pytest.mark.parametrize(
    ("changes", "earlier", "step"),
    [
        ({"lr_scheduler_type": "constant"}, 8, 8),
        ({"lr_scheduler_type": "constant", "max_steps": 8}, 40, 6),  # shorter: the last step is still to be made
        ({"lr_scheduler_type": "constant", "warmup_ratio": 0.1, "warmup_steps": 0}, 8, "with train.warmup_ratio every"),
        (
            {"lr_scheduler_type": "cosine"},
            8,
            "with train.lr_scheduler_type cosine the learning rate after step 2 depends",
        ),
        ({"lr_scheduler_type": "cosine", "warmup_steps": 6}, 8, 6),
        ({"lr_scheduler_type": "linear", "warmup_steps": 0}, 8, "with train.lr_scheduler_type linear every learning"),
        (STABLE, 9, 6),
        (STABLE, 8, "warmup_stable_decay the learning rate after step 5 depends on the length, and no earlier"),
        ({"lr_scheduler_type": "constant", "on_loss_spike": "rollback"}, 8, 6),  # of 8 there is no regular record
        (STABLE | {"max_steps": 10}, 40, 6),  # up to its own decay, which is after step 7
        ({"lr_scheduler_type": "constant", "max_steps": 5}, 40, "it left no checkpoint from before step 5"),
    ],
)
def test_a_checkpoint_serves_up_to_where_the_schedules_part(tmp_path, changes, earlier, step):
    found = find(checkpoints(tmp_path, None, 6, 8), {"max_steps": earlier}, **changes)
    assert found == checkpoint_of(tmp_path, step) if isinstance(step, int) else step in str(found)


@pytest.mark.parametrize(
    ("eval_steps", "best", "step"),
    [(4, None, 8), (4, 6, 8), (4, 4, None), (None, 6, 6), (3, 6, 6)],
)
def test_export_of_the_best_needs_its_checkpoint(tmp_path, eval_steps, best, step):
    changes = {"lr_scheduler_type": "constant", "export": "best", "eval_steps": eval_steps}
    found = find(checkpoints(tmp_path, best, 6, 8), {"max_steps": 8}, **changes)
    assert found == (
        checkpoint_of(tmp_path, step)
        if step
        else "it left no checkpoint from before step 12 with that of the lowest validation loss"
    )


def test_what_was_half_taken_over_is_taken_over_again(tmp_path):
    earlier = checkpoints(tmp_path / "earlier", None, 4, 6, 8)
    (earlier / "metrics.jsonl").write_text("all\n")
    work = checkpoints(tmp_path / "work", None, 4)
    (work / "metrics.jsonl").write_text("a half")
    (work / "tensorboard").mkdir()
    adopt(checkpoint_of(earlier, 6), work)
    assert sorted(path.name for path in work.iterdir()) == ["metrics.jsonl", "step-00000004", "step-00000006"]
    assert (work / "metrics.jsonl").read_text() == "all\n"
    state = checkpoint_of(work, 6) / "state.json"
    assert state.samefile(checkpoint_of(earlier, 6) / "state.json")
    (earlier / "metrics.jsonl").write_text("more\n")
    assert (work / "metrics.jsonl").read_text() == "all\n"
