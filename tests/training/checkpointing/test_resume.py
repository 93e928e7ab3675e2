"""A training that is stopped, or whose checkpoints break, goes on to the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training.tiny import outcome, train_in_child


@pytest.fixture(scope="module")
def undisturbed(gpt2_inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert train_in_child(gpt2_inputs, folder) == 0
    return outcome(folder, "output0")


@pytest.mark.parametrize(("place", "name"), [("forward", "SIGTERM"), ("validate", "SIGINT"), ("forward", "SIGHUP")])
def test_signal_saves_within_a_step_and_exits_75(gpt2_inputs, undisturbed, tmp_path, place, name):
    count = {"forward": 11, "validate": 1}[place]
    assert train_in_child(gpt2_inputs, tmp_path, (place, count, name)) == 75
    step = {"forward": 6, "validate": 6}[place]
    assert (tmp_path / "work" / f"step-{step:08d}").is_dir()
    assert f"stopped by {name} after step {step} of 12" in (tmp_path / "error.txt").read_text()
    assert train_in_child(gpt2_inputs, tmp_path) == 0
    assert outcome(tmp_path, "output1") == undisturbed


def test_a_second_signal_ends_at_once(gpt2_inputs, tmp_path):
    assert train_in_child(gpt2_inputs, tmp_path, ("forward", 3, "SIGINT SIGTERM")) == -15
    assert not list((tmp_path / "work").glob("step-*"))


@pytest.mark.parametrize("names", ["SIGHUP SIGHUP SIGTERM SIGHUP", "SIGTERM SIGHUP"])
def test_a_terminal_that_closes_may_say_so_more_than_once(gpt2_inputs, tmp_path, names):
    assert train_in_child(gpt2_inputs, tmp_path, ("forward", 3, names)) == 75
    assert [path.name for path in (tmp_path / "work").glob("step-*")] == ["step-00000002"]
    assert "stopped by SIGTERM after step 2 of 12" in (tmp_path / "error.txt").read_text()


def test_after_a_hangup_a_second_of_other_signals_ends_at_once(gpt2_inputs, tmp_path):
    assert train_in_child(gpt2_inputs, tmp_path, ("forward", 3, "SIGHUP SIGTERM SIGTERM")) == -15


def test_broken_newest_checkpoint_falls_back_to_the_one_before(gpt2_inputs, undisturbed, tmp_path):
    assert train_in_child(gpt2_inputs, tmp_path, ("saved", 2, "SIGKILL")) == -9
    weights = tmp_path / "work" / "step-00000008" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert train_in_child(gpt2_inputs, tmp_path) == 0
    assert (tmp_path / "work" / "broken-step-00000008").is_dir()
    assert outcome(tmp_path, "output1") == undisturbed


def test_full_disk_exits_74_and_keeps_the_earlier_checkpoint(gpt2_inputs, undisturbed, tmp_path):
    assert train_in_child(gpt2_inputs, tmp_path, ("saved", 1, "FULL")) == 74
    assert "step-00000008" in (tmp_path / "error.txt").read_text()
    assert [path.name for path in (tmp_path / "work").glob("*step*")] == ["step-00000004"]
    assert train_in_child(gpt2_inputs, tmp_path) == 0
    assert outcome(tmp_path, "output1") == undisturbed
