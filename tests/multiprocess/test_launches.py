"""How the processes of one launch get along: each artifact is built once, and none outlives another that failed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock
from harness import Project, wait_until

from pipeline.engine.launches import follower as following
from pipeline.engine.launches import leader as leading
from pipeline.engine.launches.follower import Follower
from pipeline.engine.launches.launch import Launch, StageAssignment, is_local_main_process
from pipeline.engine.launches.sweeping import sweep
from pipeline.errors import ConfigError, ProcessError
from pipeline.machine import bf16_support

Launcher = Callable[..., Any]


def wait_until_met(project: Project) -> None:
    """Until process 0 has noticed another process."""
    files = "launches/*/process-0.json"
    wait_until(lambda: any('"1": ' in path.read_text() for path in project.workspace.glob(files)))


def test_process_0_builds_alone_and_all_train(prepared: Project, launch: Launcher) -> None:
    shutil.rmtree(prepared.workspace / "artifacts" / "pack")
    first, *others = launch(prepared, "train.global_batch_size=24", "--until", "train", count=3).end()
    assert [first.code, *(other.code for other in others)] == [0, 0, 0], [first, *others]
    assert first.err.count("pack: started") == first.err.count("train: here is process 0") == 1
    assert all((other.out, other.err) == ("", "") for other in others)
    manifest = json.loads((prepared.artifact("train") / "manifest.json").read_text())
    assert manifest["summary"]["processes"] == 3
    assert (prepared.artifact("train") / "model" / "weights").read_text() == "of process 0"
    assert prepared.state()["outcome"] == "done"
    assert list((prepared.workspace / "launches").iterdir()) == []


def test_all_processes_compute_as_process_0_chose(prepared: Project, launch: Launcher) -> None:
    """Process 1 alone would choose `no`: it leaves the processor's bf16 out."""
    for settings in ((), ("train.mixed_precision=bf16",)):
        arguments = ("--until", "train", "--force", "train", *settings)
        codes = [result.code for result in launch(prepared, *arguments, behaviour="unlike").end()]
        assert codes == [0, 0]
        manifest = json.loads((prepared.artifact("train") / "manifest.json").read_text())
        chosen = bf16_support({}).is_native
        value = "bf16" if settings or chosen else "no"
        assert manifest["section"]["mixed_precision"] == value
        assert manifest["summary"]["precisions"] == [[value, {} if settings else {"mixed_precision": value}]] * 2


def test_what_exists_is_reused_by_all(prepared: Project, launch: Launcher) -> None:
    codes = [result.code for result in launch(prepared, "--only", "model").end()]
    assert codes == [0, 0]
    assert prepared.state()["stages"]["model"]["outcome"] == "reused"


@pytest.mark.parametrize(
    ("behaviour", "codes", "message"),
    [
        ("fail-1", [65, 65], "descent: process 1: it does not fit"),
        pytest.param("fail-0", [65, 65], "descent: it does not fit", marks=pytest.mark.slow),
        pytest.param("die-1", [70, -9], "descent: process 1 is gone (process {} on ", marks=pytest.mark.slow),
        ("die-0", [-9, 70], "descent: process 1: process 0 is gone (process {} on "),
    ],
)
def test_no_process_outlives_another_that_failed_in_training(
    prepared: Project, launch: Launcher, behaviour: str, codes: list[int], message: str
) -> None:
    launched = launch(prepared, "--until", "train", behaviour=behaviour)
    results = launched.end()
    assert [result.code for result in results] == codes
    told = [line for result in results for line in result.err.splitlines() if line.startswith("descent: ")]
    assert len(told) == 1
    assert told[0].startswith(message.format(launched.processes[int(behaviour[-1])].pid))
    assert told[0].endswith("run again to go on from step 7") == behaviour.startswith("die")
    if behaviour != "die-0":
        state = prepared.state()
        assert (state["outcome"], state["exit_code"]) == ("failed", codes[0])
        assert state["message"] == told[0].removeprefix("descent: ")


def test_bad_data_stops_the_processes_that_wait(prepared: Project, launch: Launcher) -> None:
    (prepared.folder / "records.jsonl").write_text("{\n" * 1000)
    first, second, third = launch(prepared, "train.global_batch_size=24", count=3).end()
    assert [first.code, second.code, third.code] == [65, 65, 65]
    assert first.err.splitlines()[-1].startswith("descent: ")
    assert (second.err, third.err) == ("", "")
    assert prepared.state()["exit_code"] == 65


def test_a_process_0_killed_while_it_builds_stops_the_others(prepared: Project, launch: Launcher) -> None:
    shutil.rmtree(prepared.workspace / "artifacts" / "augment")
    launched = launch(prepared, "--until", "augment", behaviour="slow")
    assert launched.processes[0].stderr.readline() == "augment: started\n"
    wait_until_met(prepared)
    launched.processes[0].kill()
    launched.processes[0].wait()
    first, second = launched.end()
    assert (first.code, second.code) == (-signal.SIGKILL, 70)
    assert second.err.startswith("descent: process 1: process 0 is gone (process ")
    assert len(second.err.splitlines()) == 1
    # What was left behind is not believed by the next launch with the same address and port.
    assert list((prepared.workspace / "launches").iterdir()) != []
    assert [result.code for result in launch(prepared, "--until", "augment").end()] == [0, 0]


def test_a_signal_to_process_0_stops_all(prepared: Project, launch: Launcher) -> None:
    shutil.rmtree(prepared.workspace / "artifacts" / "augment")
    launched = launch(prepared, "--until", "augment", behaviour="slow")
    assert launched.processes[0].stderr.readline() == "augment: started\n"
    wait_until_met(prepared)
    launched.processes[0].terminate()
    first, second = launched.end()
    assert (first.code, second.code, second.err) == (143, 143, "")
    assert (prepared.state()["outcome"], prepared.state()["exit_code"]) == ("interrupted", 143)


def test_two_launches_of_different_names_share_a_workspace(prepared: Project, launch: Launcher) -> None:
    shutil.rmtree(prepared.workspace / "artifacts" / "augment")
    launches = [
        launch(prepared, f"run.name={name}", "--until", "train", MASTER_PORT=port)
        for name, port in (("one", "29501"), ("two", "29502"))
    ]
    results = [result for launched in launches for result in launched.end()]
    assert [result.code for result in results] == [0, 0, 0, 0], results
    told = "".join(result.err for result in results)
    assert told.count("augment: started") == told.count("train: started") == 1
    waiting = [line for line in told.splitlines() if "waiting for process" in line]
    assert waiting, told
    assert all(line.endswith(", which is at the same work") for line in waiting)


def test_when_the_holder_of_a_lock_is_killed_another_goes_on(prepared: Project, launch: Launcher) -> None:
    shutil.rmtree(prepared.workspace / "artifacts" / "augment")
    holder = launch(prepared, "run.name=holder", "--until", "augment", behaviour="slow", count=1)
    assert holder.processes[0].stderr.readline() == "augment: started\n"
    other = launch(prepared, "--until", "augment", count=1)
    waiting = other.processes[0].stderr.readline()
    assert waiting.startswith(f"augment: waiting for process {holder.processes[0].pid} on ")
    holder.processes[0].kill()
    [result] = other.end()
    assert result.code == 0, result.err
    assert result.err.startswith("augment: started\n")
    assert not list(prepared.workspace.glob("artifacts/augment/.tmp-*"))


def test_a_mistake_is_told_once(prepared: Project, launch: Launcher) -> None:
    first, second = launch(prepared, "train.learning_rat=1").end()
    assert (first.code, second.code, second.err) == (78, 78, "")
    assert "did you mean learning_rate?" in first.err


def test_processes_with_different_configurations_do_not_train_together(tmp_path: Path) -> None:
    environ = {"WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1"}
    with (
        pytest.raises(ProcessError, match="has another configuration than process 0") as caught,
        leading.Leader(Launch.of({**environ, "RANK": "0"}), tmp_path, "a"),
        Follower(Launch.of({**environ, "RANK": "1"}), tmp_path, "b") as follower,
    ):
        list(follower.assignments())
    assert caught.value.exit_code == 78


def test_without_a_word_from_process_0_a_process_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "START_SECONDS", 0.3)
    launch = Launch.of({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1"})
    with (
        pytest.raises(ProcessError, match=r"no word from process 0 .* all must share run.workspace"),
        Follower(launch, tmp_path, "a") as follower,
    ):
        list(follower.assignments())


def test_a_process_0_on_another_machine_is_missed_when_its_heart_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(following, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=time.sleep))
    monkeypatch.setattr(leading, "BEAT_SECONDS", 0.1)
    environ = {"WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1"}
    leader = leading.Leader(Launch.of({**environ, "RANK": "0", "GROUP_RANK": "0"}), tmp_path, "a")
    follower = Follower(Launch.of({**environ, "RANK": "1", "GROUP_RANK": "1"}), tmp_path, "a")
    with leader, follower:
        beats = set()
        while len(beats) < 5:  # four heartbeats, nearly a silence apart
            follower._listen()
            if follower._beat not in beats:
                beats.add(follower._beat)
                clock[0] += 0.9 * following.SILENCE_SECONDS
        leader._ended.set()
        leader._thread.join()
        follower._listen()
        clock[0] += 1.1 * following.SILENCE_SECONDS
        with pytest.raises(ProcessError, match="process 0 is gone"):
            follower._listen()


def of_two(rank: int, **environ: str) -> Launch:
    return Launch.of({"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1", **environ})


def begin_together(root: Path, begun: list[str]) -> None:
    """As process 0, with a process 1 that ends before it has heard of process 0."""
    with leading.Leader(of_two(0), root, "a") as leader:
        with suppress(ProcessError), Follower(of_two(1), root, "a") as follower:
            follower._publish()
            raise ProcessError("it failed", 70)
        with leader.together(StageAssignment("train", "key", {}, {}), lambda error: None, lambda: "run again"):
            begun.append("train")


def test_process_0_begins_nothing_with_one_that_left(tmp_path: Path) -> None:
    """In a process group it would wait out of the reach of signals, and hold its locks meanwhile."""
    begun: list[str] = []
    with pytest.raises(ProcessError, match=r"^process 1: it failed$"):
        begin_together(tmp_path, begun)
    assert begun == []


def test_process_0_begins_nothing_with_one_that_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "COMING_SECONDS", 0.3)
    monkeypatch.setattr(leading, "END_SECONDS", 0.3)
    with (
        pytest.raises(ProcessError, match=r"^1 of 2 processes came in 0 s; all must share run.workspace, which is /"),
        leading.Leader(of_two(0), tmp_path, "a") as leader,
        leader.together(StageAssignment("train", "key", {}, {}), lambda error: None, lambda: "run again"),
    ):
        raise AssertionError("nobody to begin with")


def test_a_run_sweeps_what_killed_launches_left_and_nothing_else(prepared: Project, launch: Launcher) -> None:
    launches = prepared.workspace / "launches"
    for name in ("killed early", "killed", "elsewhere", "elsewhere long ago", "of a person", "alive"):
        (launches / name).mkdir(parents=True)
        (launches / name / "process-0.lock").touch()
    for name, word in (("killed", f"process 7 on {socket.gethostname()}"), ("elsewhere", "process 7 on another")):
        (launches / name / "process-0.json").write_text(json.dumps({"process": word}))
        (launches / name / ".tmp-7-process-1.json").touch()
    shutil.copytree(launches / "elsewhere", launches / "elsewhere long ago", dirs_exist_ok=True)
    (launches / "of a person" / "notes.txt").touch()
    for path in (launches / "elsewhere long ago" / "process-0.json", launches / "elsewhere long ago"):
        os.utime(path, (1e9, 1e9))
    with FileLock(launches / "alive" / "process-0.lock"):
        [result] = launch(prepared, "--until", "model", count=1).end()
    assert result.code == 0, result.err
    assert {path.name for path in launches.iterdir()} == {"elsewhere", "of a person", "alive"}
    assert (launches / "of a person" / "notes.txt").exists()


def test_a_launch_whose_folder_was_swept_before_it_held_its_lock_begins_all_the_same(tmp_path: Path) -> None:
    leader = leading.Leader(of_two(0), tmp_path, "a")
    sweep(tmp_path)
    assert list((tmp_path / "launches").iterdir()) == []
    with leader:
        sweep(tmp_path)
        assert [path.name for path in (tmp_path / "launches").glob("*/*.json")] == ["process-0.json"]


@pytest.mark.parametrize(("rank", "size"), [("x", "2"), ("2", "2"), ("0", ""), ("-1", "2")])
def test_an_environment_that_makes_no_sense_is_refused(rank: str, size: str) -> None:
    with pytest.raises(ConfigError, match="as no launcher does"):
        Launch.of({"RANK": rank, "WORLD_SIZE": size})


def test_one_process_on_each_machine_speaks() -> None:
    assert is_local_main_process({})
    assert is_local_main_process({"LOCAL_RANK": "0", "RANK": "8"})
    assert not is_local_main_process({"LOCAL_RANK": "1", "RANK": "1"})
