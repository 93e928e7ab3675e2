from __future__ import annotations

import pytest

from pipeline.training.checkpoints import list_checkpoints, newest_valid, save_checkpoint


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

    with pytest.raises(OSError, match="No space"):
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
