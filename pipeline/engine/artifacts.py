"""Artifacts of stages: identity, lock, commit and lookup.

<workspace>/artifacts/<stage>/<key>/    payload files and manifest.json, whole or absent
<workspace>/checkpoints/<key>/          what a resumable stage leaves behind when it is killed
<workspace>/locks/                      one lock a key, and a note of who holds it
<workspace>/digests.json                digests of source files, by path, size, times and inode
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline import atomic
from pipeline.engine.manifests import (
    FORMAT,
    KEY_LENGTH,
    SHA256,
    Manifest,
    check_sizes,
    is_key,
    read_manifest,
)
from pipeline.engine.stage import Stage, Stages
from pipeline.errors import MissingInputError, StorageError

RACY_SECONDS = 2.0
MAX_HOLDER_CHARS = 200


@dataclass(frozen=True)
class Identity:
    """Everything that a stage's result depends on. The digest of `payload`, with those of the settings alone that are
    not at their default (`of_key`), is the artifact's key."""

    payload: dict[str, Any]
    of_key: dict[str, Any]

    @property
    def key(self) -> str:
        return atomic.digest_json({**self.payload, "section": self.of_key})[:KEY_LENGTH]

    def with_defaults(self, earlier: Mapping[str, Any]) -> dict[str, Any]:
        """An earlier payload, in which settings that it does not know yet are at their default."""
        return {**earlier, "section": _with_defaults(earlier["section"], self.payload["section"], self.of_key)}


def _with_defaults(earlier: Any, now: Any, of_key: Any) -> Any:
    if isinstance(earlier, dict) and isinstance(now, dict) and isinstance(of_key, dict):
        known = {name: _with_defaults(value, now.get(name), of_key.get(name)) for name, value in earlier.items()}
        return {name: value for name, value in now.items() if name not in of_key} | known
    if isinstance(earlier, list) and isinstance(now, list) and isinstance(of_key, list):
        return [_with_defaults(*three) for three in zip(earlier, now, of_key, strict=False)] + earlier[len(now) :]
    return earlier


class Workspace:
    """The folder that holds artifacts, checkpoints and runs of a pipeline's stages."""

    def __init__(self, root: Path, stages: Stages) -> None:
        """Raises StorageError where something else than a folder is in its place."""
        if root.exists() and not root.is_dir():
            raise StorageError(f"run.workspace: {root} is no folder; name one")
        self.root = root
        self.stages = stages
        self._digests = DigestCache(root / "digests.json")

    def stage(self, name: str) -> Stage:
        """The stage of a name."""
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def resumable(self) -> dict[str, Stage]:
        """The stages that have work folders, by name."""
        return {stage.name: stage for stage in self.stages if stage.checkpointing is not None}

    def artifact(self, stage: str, key: str) -> Path:
        """Folder of an artifact, whether or not it exists."""
        return self.root / "artifacts" / stage / key

    def checkpoints(self, key: str) -> Path:
        """Folder in which a resumable stage keeps its progress."""
        return self.root / "checkpoints" / key

    def run(self, name: str) -> Path:
        """Folder of a run's view."""
        return self.root / "runs" / name

    def earlier(self, name: str) -> Path:
        """Folder of a run's results that others took the place of."""
        return self.run(name) / "earlier"

    def identify(self, stage: Stage, section: Any, seed: int | None, inputs: Mapping[str, str]) -> Identity:
        """A stage's identity, given the digests of its inputs, and the seed where it draws random numbers.

        Raises MissingInputError when a source file does not exist.
        """
        files = {label: self._digests.of(paths) for label, paths in stage.source_files(section).items()}
        self._digests.save()
        facts = stage.facts_of_key(section)
        return Identity(
            {
                "format": FORMAT,
                "stage": stage.name,
                "version": stage.version,
                "section": section.identity(),
                "seed": seed,
                "inputs": dict(inputs),
                "files_in": files,
                "libraries": {name: library_version(name) for name in stage.libraries_of_key(section)},
                **({"facts": facts} if facts else {}),
            },
            section.of_key(),
        )

    def digest(self, path: Path) -> str:
        """SHA-256 of a file, read only if its size, times or inode are others than when it was read last."""
        digest = self._digests.of([path])
        self._digests.save()
        return digest

    def find(self, stage: str, key: str) -> tuple[Manifest | None, str]:
        """The manifest of a whole artifact, or None and what is wrong with what is there ("" when nothing is)."""
        folder = self.artifact(stage, key)
        if not folder.is_dir():
            set_aside = any(folder.parent.glob(f"aside-{key}-*"))
            return None, "its artifact was set aside" if set_aside else ""
        manifest = read_manifest(folder)
        if manifest is None:
            return None, f"the artifact {folder} has no readable manifest"
        problem = check_sizes(folder, manifest)
        return (None, problem) if problem else (manifest, "")

    def manifests(self, stage: str) -> list[Manifest]:
        """Manifests of all artifacts of a stage, newest first."""
        folder = self.root / "artifacts" / stage
        found = [read_manifest(path) for path in folder.iterdir() if is_key(path.name)] if folder.is_dir() else []
        return sorted((m for m in found if m is not None), key=lambda m: -float(m["started"]))

    @contextmanager
    def lock(self, stage: str, key: str, on_wait: Callable[[str], None]) -> Iterator[None]:
        """Hold the one builder's lock of a key; it is the operating system's and dies with its holder."""
        folder = self.root / "locks"
        self.check_inside("locks", "artifacts", "checkpoints", "runs")
        if stage == "run":
            self.check_inside(f"runs/{key}", f"runs/{key}/earlier")
        else:
            self.check_inside(f"artifacts/{stage}", f"checkpoints/{key}")
        self.check_inside(*(f"checkpoints/{key}/{name}" for name in atomic.list_links(self.checkpoints(key))))
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{stage}-{key}.lock")
        holder = folder / f"{stage}-{key}.holder"
        try:
            lock.acquire(blocking=False)
        except Timeout:
            on_wait(_read_holder(holder) or "another process")
            lock.acquire()
        try:
            self._clear_leftovers(stage, key)
            with suppress(OSError, StorageError):  # a note for people
                atomic.write_bytes(holder, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            yield
        finally:
            with suppress(OSError):
                atomic.remove(holder)
            lock.release()

    def _clear_leftovers(self, stage: str, key: str) -> None:
        """Remove what killed processes left of the work whose lock is held. The cache of digests has no lock: who loses
        a file that is not whole yet does without."""
        for path in self.leftovers(stage, key):
            atomic.discard(path)
        if stage == "run":
            for path in self.root.glob(f"{atomic.TEMPORARY_PREFIX}*-{self._digests.path.name}"):
                with suppress(OSError):
                    atomic.remove(path)

    def tidy(self, stage: str, key: str) -> None:
        """Clear what is left of a builder that was killed when its artifact was whole already."""
        if (self.root / "locks" / f"{stage}-{key}.holder").exists():
            with suppress(OSError), self.unless_locked(stage, key) as held:
                if held:
                    self._clear_leftovers(stage, key)

    def leftovers(self, stage: str, key: str) -> list[Path]:
        """Temporary files and folders, and a note of a holder, that are nobody's when nobody holds the lock."""
        temporary, places = f"{atomic.TEMPORARY_PREFIX}*", [self.checkpoints(key)] if stage in self.resumable else []
        if stage == "run":
            places = [self.run(key), self.earlier(key)]
        found = [path for place in places for path in place.glob(temporary)]
        found += (self.root / "artifacts" / stage).glob(f"{atomic.TEMPORARY_PREFIX}{key}-*")
        found += (self.root / "locks").glob(f"{temporary}-{stage}-{key}.holder")
        return sorted([*found, *(self.root / "locks").glob(f"{stage}-{key}.holder")])

    def is_locked(self, stage: str, key: str) -> bool:
        """Whether somebody is building an artifact just now. Writes nothing."""
        path = self.root / "locks" / f"{stage}-{key}.lock"
        try:
            with path.open("rb") as file:  # a lock that is shared needs no permission to write
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            return True  # without locks of the operating system, FileLock's file is there while it is held
        return False

    @contextmanager
    def unless_locked(self, stage: str, key: str) -> Iterator[bool]:
        """Hold a key's lock inside the block, unless somebody is building; says whether it is held.

        Raises OSError where nothing can be written.
        """
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{stage}-{key}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def check_inside(self, *names: str) -> None:
        """Raises StorageError when one of the workspace's folders is a link that leads out of it: nothing is written
        or deleted outside."""
        for name in names:
            path = self.root / name
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root)):
                raise StorageError(f"{path}: is a link out of the workspace; remove it, or set run.workspace elsewhere")

    @contextmanager
    def building(self, stage: str, key: str) -> Iterator[Path]:
        """A temporary folder for a stage's output, which becomes the artifact when the block ends without an error;
        what is in its place then is set aside. Only for the lock's holder."""
        with atomic.replacing_folder(self.artifact(stage, key), lambda: self.set_aside(stage, key)) as folder:
            yield folder

    def set_aside(self, stage: str, key: str) -> Path:
        """Move an artifact out of the way, keeping its bytes, and return where it went."""
        artifact = self.artifact(stage, key)
        aside = atomic.place_aside(artifact)
        os.rename(artifact, aside)
        return aside


class DigestCache:
    """Digests of source files, recomputed only when path, size, times or inode differ."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, list[Any]] | None = None
        self._changed = False

    def of(self, paths: Sequence[Path]) -> str:
        """One digest for the contents of files in the given order."""
        digests = [self._digest(path) for path in paths]
        return digests[0] if len(digests) == 1 else atomic.digest_json(digests)

    def _digest(self, path: Path) -> str:
        if self._known is None:
            self._known = atomic.read_json(self.path) or {}
        try:
            status = path.stat()
            stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
            known = self._known.get(str(path.absolute()))
            if isinstance(known, list) and known[:-1] == stamp and SHA256.fullmatch(str(known[-1])):
                return str(known[-1])
            digest = atomic.digest_file(path)
        except OSError as error:
            raise MissingInputError(f"{path}: cannot read this source file: {error.strerror}") from None
        # A file written within the clock's grain of now could change again without a new stamp: do not remember it.
        # Every write moves the change time, which unlike the modification time cannot be set.
        if time.time() - status.st_ctime > RACY_SECONDS:
            self._known[str(path.absolute())] = [*stamp, digest]
            self._changed = True
        return digest

    def save(self) -> None:
        """Write new digests out; a plan in a place that cannot be written goes on without."""
        if self._changed and self.path.parent.is_dir():
            with suppress(OSError, StorageError):
                atomic.write_json(self.path, self._known)
            self._changed = False


@cache
def library_version(name: str) -> str | None:
    """Version of an installed distribution, without importing it; None when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _read_holder(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(MAX_HOLDER_CHARS).strip()
    except OSError:
        return ""
