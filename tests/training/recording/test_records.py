"""Records tell of a training; none of them, however broken, keeps it from its end or changes its weights."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training.tiny import make_inputs, run_train

from pipeline.atomic import digest_file, remove
from pipeline.training.recording.metrics_log import MetricsLog, rewind


def cut_in_a_line(path: Path) -> None:
    """Before the last checkpoints, which remember more of it."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3])


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:40] + bytes([content[40] ^ 0x80]) + content[41:])


def in_its_place(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        remove(path)
        make(path)

    return damage


DAMAGE: dict[str, Callable[[Path], None]] = {
    "cut in a line": cut_in_a_line,
    "flipped": flip,
    "empty": in_its_place(Path.touch),
    "garbage": in_its_place(lambda path: path.write_bytes(os.urandom(100_000))),
    "no numbers": in_its_place(
        lambda path: path.write_text('{"step": "x"}\n[1]\n{"step": 1, "train/loss": NaN}\n' * 999)
    ),
    "deep": in_its_place(lambda path: path.write_text("[" * 200_000)),
    "gone": remove,
    "a folder": in_its_place(lambda path: (path / "inside").mkdir(parents=True)),
    "a dangling link": in_its_place(lambda path: path.symlink_to("/nowhere/at/all")),
    "a pipe": in_its_place(lambda path: os.mkfifo(path)),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], Path]:
    """Inputs, and a finished training of them."""
    folder = tmp_path_factory.mktemp("records")
    inputs = make_inputs(folder / "inputs")
    run_train(inputs, folder / "whole", hang_timeout_seconds=600)
    return inputs, folder / "whole"


def going_on(whole: Path, folder: Path) -> Path:
    """The work folder of a training that was killed before its last checkpoint."""
    shutil.copytree(whole / "work", folder / "work", symlinks=True)
    shutil.rmtree(max((folder / "work").glob("step-*")))
    return folder / "work"


def assert_same_result(folder: Path, whole: Path) -> None:
    for name in ("model/model.safetensors", "training.json"):
        assert digest_file(folder / "output" / name) == digest_file(whole / "output" / name)


@pytest.mark.parametrize("damage", DAMAGE)
def test_no_damage_of_a_record_keeps_a_training_from_its_end(
    undisturbed: tuple[dict[str, Path], Path], tmp_path: Path, damage: str
) -> None:
    inputs, whole = undisturbed
    work = going_on(whole, tmp_path)
    (events,) = (path for path in (work / "tensorboard").rglob("*") if path.is_file())
    for path in (work / "metrics.jsonl", events):
        DAMAGE[damage](path)
    (work / "hang").write_text("in the way")
    run_train(inputs, tmp_path, hang_timeout_seconds=600)
    assert_same_result(tmp_path, whole)
    for line in (tmp_path / "output/metrics.jsonl").read_text().splitlines():
        assert isinstance(json.loads(line)["step"], int)


@pytest.mark.parametrize("damage", ["a folder", "a pipe", "garbage"])
def test_something_else_in_the_place_of_the_event_files_is_taken_away(
    undisturbed: tuple[dict[str, Path], Path], tmp_path: Path, damage: str
) -> None:
    inputs, whole = undisturbed
    work = going_on(whole, tmp_path)
    DAMAGE[damage](work / "tensorboard")
    run_train(inputs, tmp_path)
    assert digest_file(tmp_path / "output/model/model.safetensors") == digest_file(
        whole / "output/model/model.safetensors"
    )


def test_what_is_lost_is_said_once(undisturbed: tuple[dict[str, Path], Path], tmp_path: Path) -> None:
    _, whole = undisturbed
    for damage, told in {
        "cut in a line": ["1 lines of metrics.jsonl cannot be read: left out of the records"],
        "a folder": [
            "metrics.jsonl is no record: removed, its points are missing",
            "metrics.jsonl is shorter than at the checkpoint: earlier points are missing from the records",
        ],
    }.items():
        work = Path(shutil.copytree(whole / "work", tmp_path / damage))
        path, said = work / "metrics.jsonl", []
        DAMAGE[damage](path)
        size = path.stat().st_size
        rewind(work, {"metrics.jsonl": size}, said.append)
        assert said == [f"warning: {line}" for line in told]


def other_figure(path: Path) -> None:
    """A line that is as good as any."""
    text = path.read_text()
    place = text.index('"train/loss": ') + len('"train/loss": ')
    path.write_text(f"{text[:place]}{9 - int(text[place])}{text[place + 1 :]}")


@pytest.mark.parametrize("lost", [0, 10, "line", "in the middle", "figure"])
def test_lost_lines_cost_no_others(tmp_path: Path, lost: int | str) -> None:
    lines = [json.dumps({"step": step, "train/loss": 5.0 - step / 100}) + "\n" for step in range(1, 101)]
    whole, path, said = "".join(lines), tmp_path / "metrics.jsonl", []
    left = {"line": "".join(lines[:-1]), "in the middle": "".join(lines[:50] + lines[51:])}
    left["figure"] = whole.replace("4.5", "4.6")
    path.write_text(left[lost] if isinstance(lost, str) else whole[: len(whole) - lost])
    rewind(tmp_path, {path.name: len(whole)}, said.append, hashlib.sha256(whole.encode()).hexdigest())
    kept = path.read_text().splitlines(keepends=True) if path.exists() else []
    assert len(kept) == {0: 100, "figure": 0}.get(lost, 99)
    assert {*kept} <= {*lines}
    assert bool(said) == (lost != 0)
    if lost == "figure":
        assert (tmp_path / "altered-metrics.jsonl").read_text() == left["figure"]


def test_no_altered_figure_is_taken_for_what_was_measured(
    undisturbed: tuple[dict[str, Path], Path], tmp_path: Path
) -> None:
    """Nor of a shorter training, that a longer one goes on from."""
    inputs, whole = undisturbed
    for max_steps in (12, 16):
        folder = tmp_path / str(max_steps)
        work = going_on(whole, folder) if max_steps == 12 else Path(shutil.copytree(whole / "work", folder / "work"))
        other_figure(work / "metrics.jsonl")
        run_train(inputs, folder, hang_timeout_seconds=600, max_steps=max_steps, lr_scheduler_type="constant")
        steps = [json.loads(line)["step"] for line in (folder / "output/metrics.jsonl").read_text().splitlines()]
        assert min(steps) > (8 if max_steps == 12 else 11)
        assert max(steps) == max_steps


@pytest.mark.parametrize("what", ["metrics.jsonl", "tensorboard"])
def test_records_that_vanish_while_it_trains(
    undisturbed: tuple[dict[str, Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    inputs, whole = undisturbed
    log = MetricsLog.log

    def breaking(self: MetricsLog, *given: Any) -> None:
        log(self, *given)
        remove(tmp_path / "work" / what)

    monkeypatch.setattr(MetricsLog, "log", breaking)
    run_train(inputs, tmp_path)
    assert digest_file(tmp_path / "output/model/model.safetensors") == digest_file(
        whole / "output/model/model.safetensors"
    )
