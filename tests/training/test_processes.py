"""Two processes train like one, and neither outlives the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from training.tiny import GPT2, LLAMA, make_inputs, metrics, outcome, train_in_child, train_in_children

from pipeline.errors import ConfigError
from pipeline.training.train_config import TrainConfig

LOSS_TOLERANCE = 1e-5
"""Relative, over 12 steps in float32: gradients differ in their last bits, and the steps carry that on."""

NORM_TOLERANCE = 1e-3
"""Relative, of single matrices: some, such as those of norms, have gradients that are small differences."""

DONE, LOST, INTERRUPTED = 0, 70, 75
Inputs = dict[str, Path]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Without dropout, whose masks belong to the processes."""
    return make_inputs(tmp_path_factory.mktemp("inputs"), "llama", LLAMA)


@pytest.fixture(scope="module")
def with_dropout(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_inputs(tmp_path_factory.mktemp("inputs"), "gpt2", GPT2)


@pytest.fixture(scope="module")
def alone(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("alone")
    assert train_in_child(inputs, folder) == DONE
    return metrics(folder / "output0")


@pytest.fixture(scope="module")
def undisturbed(with_dropout: Inputs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert train_in_children(with_dropout, folder, 2) == [DONE, DONE]
    return outcome(folder, "output0")


def assert_same_curves(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    noise = {"train/grad_noise_scale", "unmeasured/noise_scale"}  # measured where there are several micro-batches
    assert [line.keys() - noise for line in found] == [line.keys() - noise for line in expected]
    for one, other in zip(found, expected, strict=True):
        exact = {"step", "target_tokens", "train/learning_rate"}
        assert {tag: one.get(tag) for tag in exact} == {tag: other.get(tag) for tag in exact}
        for tag in {"train/loss", "eval/loss", "train/grad_norm"} & one.keys():
            assert one[tag] == pytest.approx(other[tag], rel=LOSS_TOLERANCE)
        norms = [tag for tag in one if tag.startswith("matrices/") and tag.endswith(("/grad_norm", "/weight_norm"))]
        inside = ("probe/", "attention/", "embedding/")
        norms += [tag for tag in one if tag.startswith(inside) and not tag.endswith("_units")]
        assert {tag: one[tag] for tag in norms} == pytest.approx({tag: other[tag] for tag in norms}, rel=NORM_TOLERANCE)
    before, other = found[0], expected[0]
    assert before["step"] == 0
    assert before == pytest.approx(other, rel=LOSS_TOLERANCE)  # of the same weights, all that a probe sees


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_two_processes_train_like_one(inputs, alone, tmp_path, micro_batch):
    codes = train_in_children(inputs, tmp_path, 2, per_device_train_batch_size=micro_batch)
    assert codes == [DONE, DONE]
    assert_same_curves(metrics(tmp_path / "output0"), alone)


def test_the_number_of_processes_may_change_on_the_way(inputs, alone, tmp_path):
    for count, stop in ((2, ("forward", 5, "SIGTERM")), (1, ("forward", 5, "SIGTERM")), (2, None)):
        codes = train_in_children(inputs, tmp_path, count, stop)
        assert codes == [INTERRUPTED if stop else DONE] * count
    resumed = json.loads((tmp_path / "work" / "step-00000012" / "state.json").read_text())["counters"]
    assert resumed["resumed_from_steps"] == [5, 8]
    assert_same_curves(metrics(tmp_path / "output2"), alone)


@pytest.mark.parametrize("at", [0, 1])
def test_a_process_killed_ends_the_other_and_the_run_goes_on_to_the_same_bits(with_dropout, undisturbed, tmp_path, at):
    codes = train_in_children(with_dropout, tmp_path, 2, ("forward", 6, "SIGKILL"), at)
    assert (codes[at], codes[1 - at]) == (-9, LOST)
    assert "lost another of the 2 processes" in (tmp_path / f"error{1 - at or ''}.txt").read_text()
    assert train_in_children(with_dropout, tmp_path, 2) == [DONE, DONE]
    assert outcome(tmp_path, "output1") == undisturbed


@pytest.mark.parametrize("place", ["forward", "validate"])
def test_a_signal_to_one_process_stops_both_at_the_same_step(with_dropout, undisturbed, tmp_path, place):
    codes = train_in_children(with_dropout, tmp_path, 2, (place, 1, "SIGTERM"), at=1)
    assert codes == [INTERRUPTED, INTERRUPTED]
    assert train_in_children(with_dropout, tmp_path, 2) == [DONE, DONE]
    assert outcome(tmp_path, "output1") == undisturbed


def test_a_full_disk_ends_both(with_dropout, tmp_path):
    assert train_in_children(with_dropout, tmp_path, 2, ("saved", 1, "FULL")) == [74, LOST]
    assert [path.name for path in (tmp_path / "work").glob("*step*")] == ["step-00000004"]


@pytest.mark.parametrize(("count", "micro_batch"), [(3, None), (2, 4), (8, None)])
def test_a_global_batch_that_cannot_be_shared_out_is_refused(count, micro_batch):
    section = TrainConfig(max_steps=1, global_batch_size=4, per_device_train_batch_size=micro_batch)
    with pytest.raises(ConfigError, match=rf"global_batch_size 4 is not a multiple of the {count} processes"):
        section.micro_batch_size(count)
