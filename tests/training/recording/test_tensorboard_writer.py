"""What TensorBoard's own reader finds, of whole trainings and of those that were killed or could not write."""

from __future__ import annotations

import errno
import io
import math
import os
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training.tiny import SECTION, context_for, metrics, outcome, run_train, train_in_child

from pipeline.atomic import digest_file, remove
from pipeline.stages.train import STAGE
from pipeline.training.recording import tensorboard_writer
from pipeline.training.recording.gradient_flow import MOST_COLUMNS, MOST_LAYERS, GradientFlow
from pipeline.training.recording.tensorboard_writer import TensorBoardWriter
from pipeline.training.train_config import TrainConfig

SETTINGS: dict[str, Any] = {"logging_steps": 1, "telemetry_steps": 1, "save_steps": 4, "learning_rate": 1e-6}
LAYERS = {"wpe", "wte", "h.0", "h.1", "ln_f", "lm_head"}


@pytest.fixture(scope="module")
def whole(gpt2_inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run_train(gpt2_inputs, folder, **SETTINGS)
    return folder


def test_a_layer_is_a_folder_with_its_matrices_and_their_histograms(whole):
    shown = outcome(whole, "output")["tensorboard"]
    folders = {tag.split("/")[0] for tag in shown}
    assert folders == {
        *LAYERS,
        "train",
        "eval",
        "probe",
        "attention",
        "embedding",
        "health",
        "verdicts",
        "gradient_flow",
    }
    start, line, *_ = metrics(whole / "output")
    assert shown["h.1/mlp.act/dead_units"][0] == (0, start["probe/h.1.mlp.act/dead_units"])
    assert shown["h.1/output/growth"][0] == (0, pytest.approx(start["probe/h.1/growth"]))
    assert [step for step, _ in shown["attention/h.1/entropy_mean"]][:2] == [0, 1]
    weights = line["matrices/h.1.attn.c_attn/weight_norm"]
    assert shown["h.1/attn.c_attn/weight_norm"][0] == (1, pytest.approx(weights))
    assert {tag.rpartition("/")[2] for tag in shown if tag.startswith("wte/weight/")} > {"weights", "gradients"}
    parts = [line[tag] for tag in line if tag.startswith("matrices/h.1.") and tag.endswith("/grad_norm")]
    assert shown["h.1/grad_norm"][0] == (1, pytest.approx(math.hypot(*parts)))

    of_layers = {tag: told for tag, told in shown.items() if tag.split("/")[0] in LAYERS}
    histograms = {tag: told for tag, told in of_layers.items() if tag.endswith(("/weights", "/gradients"))}
    assert {step for told in histograms.values() for step, _ in told} == {1, 2, 4, 5, 8, 10}
    assert [step for step, _ in shown["h.1/mlp.act/activations"]] == [0, 1, 2, 4, 5, 8, 10]
    of_matrix = dict(shown["h.0/mlp.c_fc/weights"])[1]
    assert of_matrix.num == sum(of_matrix.bucket) == 16 * 64
    edges = [of_matrix.min, *of_matrix.bucket_limit]
    middles = [(left + right) / 2 for left, right in pairwise(edges)]
    squares = sum(count * middle**2 for count, middle in zip(of_matrix.bucket, middles, strict=True))
    assert squares**0.5 == pytest.approx(line["matrices/h.0.mlp.c_fc/weight_norm"], rel=0.05)
    step, picture = shown["gradient_flow"][-1]
    assert step == 10
    assert Image.open(io.BytesIO(picture)).size > (200, 100)


@pytest.mark.slow
def test_a_killed_and_resumed_training_shows_what_a_whole_one_does_and_nothing_twice(gpt2_inputs, whole, tmp_path):
    assert train_in_child(gpt2_inputs, tmp_path, ("forward", 21, "SIGKILL"), **SETTINGS) == -9
    lost = numbers_in(tmp_path / "work/tensorboard")
    assert max(step for step, _ in lost["train/loss"]) > 8  # the last checkpoint
    assert train_in_child(gpt2_inputs, tmp_path, **SETTINGS) == 0
    resumed, undisturbed = outcome(tmp_path, "output1"), outcome(whole, "output")
    assert resumed == undisturbed
    for tag, told in resumed["tensorboard"].items():
        assert max(Counter(step for step, _ in told).values()) == 1, tag
    assert len(list((tmp_path / "output1/tensorboard").iterdir())) == 2


def numbers_in(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def no_loss(reason: str) -> None:
    raise AssertionError(reason)


def test_a_tensorboard_that_watches_forgets_what_is_taken_anew(tmp_path):
    events = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0})
    first = TensorBoardWriter(tmp_path, no_loss)
    sizes = {}
    for step in range(1, 7):
        first.add(step, {"loss": float(step)})
        sizes[step] = first.path.stat().st_size
    events.Reload()
    first.close()
    os.truncate(first.path, sizes[4])
    second = TensorBoardWriter(tmp_path, no_loss)
    second.begin_at(5)
    second.add(5, {"loss": 0.5})
    assert second.path.name > first.path.name
    events.Reload()
    assert [(one.step, one.value) for one in events.Scalars("loss")] == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 0.5)]


def test_a_file_comes_after_all_others_whatever_the_clock_says(tmp_path):
    (tmp_path / "hint.txt").touch()
    first = TensorBoardWriter(tmp_path, no_loss).path
    assert first.name > "events.out.tfevents.1764500000"
    (tmp_path / "events.out.tfevents.9000000000.host.7.0").touch()
    assert TensorBoardWriter(tmp_path, no_loss).path.name == "events.out.tfevents.9000000001"


@pytest.mark.parametrize("what", ["a full disk", "a folder that is gone", "no folder from the start"])
def test_no_training_ends_for_it(gpt2_inputs, whole, tmp_path, monkeypatch, what):
    write, calls = tensorboard_writer.RecordWriter.write, []

    def failing(self: Any, data: bytes) -> None:
        calls.append(data)
        if len(calls) == 8 and what == "a full disk":
            self._writer.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        if len(calls) == 8 and what == "a folder that is gone":
            remove(tmp_path / "work/tensorboard")
        write(self, data)

    monkeypatch.setattr(tensorboard_writer.RecordWriter, "write", failing)
    if what == "no folder from the start":
        remarks = OSError(errno.EROFS, "Read-only file system")
        monkeypatch.setattr(tensorboard_writer, "_next_number", MagicMock(side_effect=remarks))
    section = TrainConfig(**{**SECTION, **SETTINGS})
    context = context_for(section, gpt2_inputs, tmp_path / "output", tmp_path / "work")
    STAGE.run(context)
    for name in ("model/model.safetensors", "training.json"):
        assert digest_file(tmp_path / "output" / name) == digest_file(whole / "output" / name)
    assert metrics(tmp_path / "output") == metrics(whole / "output")
    said = context.progress._stream.getvalue()
    assert said.count("holds no more records of this training") == 1
    assert "warning: tensorboard" in said
    if what == "a full disk":
        assert "No space left on device" in said
        kept = numbers_in(tmp_path / "output/tensorboard")
        assert [step for step, _ in kept["train/loss"]] == [1, 2, 3, 4]


def test_a_picture_has_as_many_columns_as_fit_and_is_the_same_of_the_same_records():
    one, other = GradientFlow(), GradientFlow()
    for step in range(5 * MOST_COLUMNS):
        record = {"step": step, **{f"matrices/{layer}.x/grad_norm": 10.0**-layer for layer in range(3)}}
        one.add(record)
        other.add(record)
        other.add({"step": step, "eval/loss": 1.0})
    picture = one.picture()
    assert picture == other.picture()
    image = Image.open(io.BytesIO(picture))
    assert image.width < 1000
    colours = {image.getpixel((image.width // 2, 2 * 16 + 16 * row + 8)) for row in range(3)}
    assert len(colours) == 3


def test_there_is_no_picture_of_nothing_or_of_too_much():
    nothing, zero, much = GradientFlow(), GradientFlow(), GradientFlow()
    nothing.add({"step": 1, "train/loss": 1.0})
    zero.add({"step": 1, "matrices/a/grad_norm": 0.0})
    much.add({"step": 1, **{f"matrices/layers.{layer}.x/grad_norm": 1.0 for layer in range(MOST_LAYERS + 1)}})
    assert [one.picture() for one in (nothing, zero, much)] == [None, None, None]
