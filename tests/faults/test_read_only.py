"""A workspace that may only be looked at can be: on a file system that is mounted so, or of another user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import PATIENCE_SECONDS, Project, Result, tells

STRANGER = 54321
"""A user without name or home, as containers start processes."""

LOOKS: tuple[tuple[str, ...], ...] = (
    ("plan", "tiny.yaml"),
    ("plan", "tiny.yaml", "ingest.max_rejected_fraction=0.5"),
    ("status", "tiny.yaml"),
    ("explain", "tiny.yaml", "train"),
    ("diff", "tiny.yaml", "other"),
    ("verify", "tiny.yaml"),
    ("gc", "tiny.yaml"),
    ("generate", "tiny.yaml", "--prompt", "The", "--max-new-tokens", "2"),
)


@pytest.fixture
def mounted(finished: Project) -> Iterator[Project]:
    """The finished run, whose workspace is mounted for reading alone when `freeze` is called."""
    workspace = str(finished.workspace)
    finished.descent("run", "tiny.yaml", "run.name=other")
    if subprocess.run(["mount", "--bind", workspace, workspace], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield finished
    finally:
        subprocess.run(["umount", "--lazy", workspace], check=True)


def freeze(project: Project) -> None:
    subprocess.run(["mount", "-o", "remount,bind,ro", str(project.workspace)], check=True)
    with pytest.raises(OSError, match="Read-only file system"):
        (project.workspace / "new").touch()


def damage(path: Path) -> None:
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_a_read_only_workspace_can_be_looked_at(mounted: Project) -> None:
    usual = {verb: mounted.descent(*verb) for verb in LOOKS}
    freeze(mounted)
    for verb in LOOKS:
        found = mounted.descent(*verb)
        if verb[0] == "status":  # tells ages
            assert (found.code, found.err, len(found.out)) == (0, "", len(usual[verb].out))
        else:
            assert found == usual[verb], verb
        assert found.code == 0, found.err


def test_a_read_only_workspace_needs_no_locks(mounted: Project) -> None:
    shutil.rmtree(mounted.workspace / "locks")
    freeze(mounted)
    for verb in ("status", "verify", "gc"):
        found = mounted.descent(verb, "tiny.yaml")
        assert (found.code, found.err) == (0, ""), verb


def test_what_would_write_into_it_says_that_it_cannot(mounted: Project) -> None:
    freeze(mounted)
    for verb in (("run", "tiny.yaml"), ("gc", "tiny.yaml", "--delete")):
        found = mounted.descent(*verb)
        assert found.code == 74
        assert found.err.count("\n") == 1
        assert ": Read-only file system; " in found.err


def test_verify_reports_what_it_cannot_set_aside(mounted: Project) -> None:
    artifact = mounted.artifact("encode") / "train" / "stream.ds"
    checkpoint = max(mounted.workspace.glob("checkpoints/*/step-*"))
    damage(artifact)
    damage(checkpoint / "model.safetensors")
    freeze(mounted)
    for _ in range(2):
        found = mounted.descent("verify", "tiny.yaml")
        assert found.code == 74
        of_artifact, of_checkpoint = sorted(found.err.splitlines())
        stays = ("does not match its digest", "Read-only file system", "stays in use")
        assert tells(of_artifact, str(artifact.relative_to(mounted.folder)), *stays)
        assert tells(of_checkpoint, str(checkpoint.relative_to(mounted.folder)), "model.safetensors", *stays)


def test_what_is_being_built_is_seen_without_writing(mounted: Project) -> None:
    """By a lock that another process holds, through another mount or on another machine."""
    key = mounted.artifact("train").name
    shutil.rmtree(mounted.workspace / "artifacts" / "train")
    mounted.write_state(training="other")
    program = f"""if True:
        import sys
        from pathlib import Path
        from pipeline.engine.artifacts import Workspace
        from pipeline.stages import STAGES
        with Workspace(Path("workspace"), STAGES).lock("train", {key!r}, print):
            print("locked", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", program]
    holder = mounted.start(command=command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    # Somebody writes into the workspace, so the mount cannot change; a lock that is shared is tried here all the same.
    assert f"checkpoints/{key}" not in mounted.descent("gc", "tiny.yaml").out
    holder.communicate(timeout=PATIENCE_SECONDS)
    freeze(mounted)
    assert f"checkpoints/{key}" in mounted.descent("gc", "tiny.yaml").out


def as_stranger(folder: Path, *arguments: str) -> Result:
    """Carry out a command as a user who owns nothing, without name and home."""
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "USER", "LOGNAME")}
    user = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"]
    done = subprocess.run(
        [*user, sys.executable, "-m", "pipeline", *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def foreign(finished_once: Project) -> Iterator[Project]:
    """The finished run where another user may read it; pytest's own folders are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        project = finished_once.copy(Path(folder) / "copy")
        project.descent("run", "tiny.yaml", "run.name=other")
        subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
        if os.geteuid() or shutil.which("setpriv") is None or as_stranger(project.folder, "--version").code:
            pytest.skip("needs root, setpriv, and a Python that others may use")
        yield project


def test_another_users_workspace_can_be_looked_at(foreign: Project) -> None:
    for verb in LOOKS:
        found = as_stranger(foreign.folder, *verb)
        assert (found.code, found.err) == (0, ""), verb
    found = as_stranger(foreign.folder, "run", "tiny.yaml")
    assert (found.code, found.err.count("\n")) == (74, 1)
    assert ": Permission denied; " in found.err


@pytest.mark.parametrize("last", ["augment", pytest.param("report", marks=pytest.mark.slow)])
def test_a_user_without_name_and_home_can_run(foreign: Project, last: str) -> None:
    own = foreign.folder.parent / "own"
    own.mkdir()
    os.chown(own, STRANGER, STRANGER)
    found = as_stranger(foreign.folder, "run", "tiny.yaml", f"run.workspace={own}", "--until", last)
    assert found.code == 0, found.err
    assert f"{last}: done" in found.err
