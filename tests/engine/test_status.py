"""`descent status`: what differs between runs, compact for many of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import MINIMAL, read_run_settings, workspace_in

from pipeline.atomic import sealed
from pipeline.engine.status import format_status

Write = Callable[..., None]


@pytest.fixture
def write_run(tmp_path: Path) -> Write:
    """Writes a run of the workspace `tmp_path`, begun after those before, with settings by dotted key."""
    names: list[str] = []

    def write_run(name: str, **settings: Any) -> None:
        names.append(name)
        values = yaml.safe_load(MINIMAL)
        values["run"]["name"] = name
        for key, value in settings.items():
            section, _, field = key.partition("__")
            values.setdefault(section, {})[field] = value
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(values))
        state = {"name": name, "outcome": "done", "exit_code": 0, "started": 1.7e9 + len(names), "stages": {}}
        (folder / "run.json").write_text(json.dumps(sealed(state)))

    return write_run


def told(root: Path) -> dict[str, str]:
    """What is told of each run, in the order of the table."""
    found: dict[str, str] = {}
    for line in format_status(workspace_in(root), read_run_settings).split("\n\n")[1].splitlines()[1:]:
        if line.startswith("  "):
            found[[*found][-1]] = line.strip()
        else:
            found[line.split()[0]] = ""
    return found


def test_of_two_runs_both_values_are_told(tmp_path: Path, write_run: Write) -> None:
    write_run("fast", train__learning_rate=0.5, train__logging_steps=3)
    write_run("base", train__optim="sgd")
    assert told(tmp_path) == {
        "fast": 'train.optim="adamw_torch_fused"  train.learning_rate=0.5  train.logging_steps=3',
        "base": 'train.optim="sgd"  train.learning_rate=0.001  train.logging_steps=10',
    }


def test_of_a_sweep_every_value_and_what_most_share_is_told_of_the_others(tmp_path: Path, write_run: Write) -> None:
    for number in range(4):
        write_run(f"rate-{number}", train__learning_rate=number + 1.0)
    write_run("wide", train__learning_rate=1.0, pack__block_size=64)
    assert told(tmp_path) == {
        "rate-0": "train.learning_rate=1.0",
        "rate-1": "train.learning_rate=2.0",
        "rate-2": "train.learning_rate=3.0",
        "rate-3": "train.learning_rate=4.0",
        "wide": "pack.block_size=64  train.learning_rate=1.0",
    }


def test_equal_runs_and_a_single_one_have_nothing_to_tell(tmp_path: Path, write_run: Write) -> None:
    write_run("one", train__learning_rate=0.001)
    assert told(tmp_path) == {"one": ""}
    write_run("default")
    assert told(tmp_path) == {"one": "", "default": ""}


def test_long_and_many_settings_are_cut(tmp_path: Path, write_run: Write) -> None:
    names = ("learning_rate", "weight_decay", "adam_beta1", "adam_epsilon", "max_grad_norm", "z_loss_coef", "ema_decay")
    write_run("a")
    write_run("b", report__title="long " * 40, **{f"train__{name}": 0.25 for name in names})
    line = told(tmp_path)["b"]
    assert line.endswith("train.z_loss_coef=0.25  and 2 more")
    assert line.count("=") == 6
    write_run("c", report__title="long \x1b" * 40)
    assert r'report.title="long \u001blong' in format_status(workspace_in(tmp_path), read_run_settings)
    assert max(map(len, format_status(workspace_in(tmp_path), read_run_settings).splitlines())) < 200


@pytest.mark.parametrize("damage", ["{", "run: 3\n", None])
def test_a_run_without_a_readable_configuration_is_listed_all_the_same(
    tmp_path: Path, write_run: Write, damage: str | None
) -> None:
    for name, rate in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        write_run(name, train__learning_rate=rate)
    path = tmp_path / "runs/b/config.yaml"
    path.unlink()
    if damage is not None:
        path.write_text(damage)
    found = told(tmp_path)
    assert [*found] == ["a", "b", "c"]
    assert "train.learning_rate=1.0" in found["a"]
    assert "learning_rate" not in found["b"]


def test_of_many_runs_the_last_are_listed_unless_all_are_asked_for(tmp_path: Path, write_run: Write) -> None:
    for number in range(33):
        write_run(f"run-{number}", run__seed=number)
    assert [*told(tmp_path)] == [*(f"run-{number}" for number in range(3, 33)), "and"]
    assert "\nand 3 before; --all lists them\n" in format_status(workspace_in(tmp_path), read_run_settings)
    everything = format_status(workspace_in(tmp_path), read_run_settings, lists_all=True)
    assert "\nrun-0 " in everything
    assert "before" not in everything


@pytest.mark.parametrize("seconds", [1e300, -1e300, 1e12, "1"])
def test_a_run_of_no_time_is_one_that_cannot_be_read(tmp_path: Path, seconds: Any) -> None:
    folder = tmp_path / "runs/odd"
    folder.mkdir(parents=True)
    entry = {stage: {"key": "0" * 16} for stage in ("train", "evaluate", "report")}
    fine = {"name": "odd", "outcome": "done", "started": 1.0, "finished": 2.0, "stages": entry}
    shown = {"started": 1.0, "finished": 2.0, "config": "", "stages": entry}
    for odd in (
        {"started": seconds},
        {"finished": seconds},
        {"shown": {**shown, "finished": seconds}},
        {"shown": {**shown, "started": seconds}},
    ):
        (folder / "run.json").write_text(json.dumps(sealed({**fine, **odd})))
        told = format_status(workspace_in(tmp_path), read_run_settings)
        assert f"{folder / 'run.json'} is missing or cannot be read" in told
