from __future__ import annotations

import threading

import pytest

from pipeline.errors import StorageError
from pipeline.training.checkpointing.checkpoints import (
    CheckpointWriter,
    list_checkpoints,
    newest_valid,
    problem_of,
    save_checkpoint,
)
from pipeline.training.train_config import TrainConfig

PATIENCE = 10.0


def save(work, step, keep=3, text="tensors"):
    save_checkpoint(work, step, lambda folder: folder.joinpath("model").write_text(f"{text} {step}"), keep)


def test_the_newest_are_kept(tmp_path):
    for step in (1, 2, 10):
        save(tmp_path, step, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000002", "step-00000010"]
    assert newest_valid(tmp_path, pytest.fail).name == "step-00000010"


def test_an_error_while_writing_leaves_the_others(tmp_path):
    save(tmp_path, 1)

    def fail(folder):
        folder.joinpath("model").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="step-00000002: the disk is full"):
        save_checkpoint(tmp_path, 2, fail, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "no digests", "garbled digests"])
def test_a_broken_checkpoint_is_set_aside(tmp_path, damage):
    save(tmp_path, 1)
    save(tmp_path, 2)
    newest = tmp_path / "step-00000002"
    if damage == "flip":
        newest.joinpath("model").write_text("tensorz 2")
    elif damage == "truncate":
        newest.joinpath("model").write_text("tens")
    elif damage == "remove":
        newest.joinpath("model").unlink()
    elif damage == "no digests":
        newest.joinpath("digests.json").unlink()
    else:
        newest.joinpath("digests.json").write_text("[1")
    warnings: list[str] = []
    assert newest_valid(tmp_path, warnings.append).name == "step-00000001"
    assert len(warnings) == 1
    assert "step-00000002 is broken" in warnings[0]
    assert (tmp_path / "broken-step-00000002").is_dir()


def test_leftovers_are_cleared_and_nothing_valid_is_none(tmp_path):
    tmp_path.joinpath(".tmp-step-00000004-123").mkdir()
    assert newest_valid(tmp_path, pytest.fail) is None
    assert list(tmp_path.iterdir()) == []


def test_the_best_is_kept_beside_the_newest(tmp_path):
    for step in (1, 2, 3, 4, 5):
        save_checkpoint(tmp_path, step, lambda folder: None, keep=2, spared=(2 if step > 1 else 1, None))
    assert [path.name[-1] for path in list_checkpoints(tmp_path)] == ["2", "4", "5"]


def writer(work, minutes=None, index=0, num_writers=1):
    section = TrainConfig(max_steps=1, save_total_limit=9, save_minutes=minutes)
    return CheckpointWriter(section, 1, work, index, num_writers)


def test_training_goes_on_while_a_checkpoint_is_written_and_the_next_waits_for_it(tmp_path):
    may_end, both_begun = threading.Event(), threading.Event()

    def write_slowly(folder):
        folder.joinpath("model").write_text("tensors")
        assert may_end.wait(PATIENCE)

    with writer(tmp_path) as checkpoints:
        checkpoints.save(1, write_slowly)
        assert list_checkpoints(tmp_path) == []
        second = threading.Thread(target=lambda: (checkpoints.save(2, lambda folder: None), both_begun.set()))
        second.start()
        assert not both_begun.wait(0.05)
        may_end.set()
        assert both_begun.wait(PATIENCE)
    assert [path.name[-1] for path in list_checkpoints(tmp_path)] == ["1", "2"]


def fail(folder):
    raise OSError(28, "No space left on device")


def save_and(work, then, write=fail, num_writers=1):
    with writer(work, num_writers=num_writers) as checkpoints:
        checkpoints.save(1, write)
        then(checkpoints)


def ask_until_told(checkpoints):
    while not checkpoints.is_overdue():
        pass


def go_on_to_an_error_of_its_own(checkpoints):
    raise ValueError("training")


@pytest.mark.parametrize("then", [ask_until_told, lambda c: c.save(2, lambda folder: None), lambda c: None])
def test_an_error_in_the_background_is_raised_by_the_next_call(tmp_path, then):
    with pytest.raises(OSError, match="No space"):
        save_and(tmp_path, then)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_training_is_not_hidden_by_one_of_the_last_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="training"):
        save_and(tmp_path, go_on_to_an_error_of_its_own)


def test_minutes_make_a_checkpoint_overdue_in_the_main_process_alone(tmp_path):
    assert writer(tmp_path, minutes=1e-9).is_overdue()
    assert not writer(tmp_path, minutes=1e-9, index=1).is_overdue()
    assert not writer(tmp_path, minutes=60).is_overdue()
    assert not writer(tmp_path).is_overdue()


def test_other_processes_write_nothing(tmp_path):
    with writer(tmp_path, index=1) as checkpoints:
        checkpoints.save(1, fail)
    assert list(tmp_path.iterdir()) == []


def write_text(text):
    return lambda folder: folder.joinpath("model").write_text(text)


def test_processes_that_hold_parts_write_one_checkpoint(tmp_path):
    with writer(tmp_path, index=0, num_writers=3) as first:
        first.save(7, write_text("0"))
        with writer(tmp_path, index=2, num_writers=3) as third:
            third.save(7, write_text("2"))
        assert list_checkpoints(tmp_path) == []  # one part is missing
        with writer(tmp_path, index=1, num_writers=3) as second:
            second.save(7, write_text("1"))
    [checkpoint] = list_checkpoints(tmp_path)
    found = {path.relative_to(checkpoint).as_posix(): path.read_text() for path in checkpoint.rglob("model")}
    assert found == {"model": "0", "process-00001/model": "1", "process-00002/model": "2"}
    assert problem_of(checkpoint) is None
    (checkpoint / "process-00001" / "model").write_text("x")
    assert problem_of(checkpoint) == "process-00001/model does not match its digest"
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_a_part_that_cannot_be_written_fails_the_checkpoint(tmp_path):
    with pytest.raises(OSError, match="No space"), writer(tmp_path, index=1, num_writers=2) as second:
        second.save(7, fail)
    another = "another process could not write its part"
    with pytest.raises(StorageError, match=another), writer(tmp_path, num_writers=2) as first:
        first.save(7, write_text("0"))
    assert newest_valid(tmp_path, pytest.fail) is None
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_ends_does_not_wait_for_the_parts_of_others(tmp_path):
    with pytest.raises(ValueError, match="training"):
        save_and(tmp_path, go_on_to_an_error_of_its_own, write_text("0"), num_writers=2)
