"""Artifacts of stages: identity, manifest, lock, commit and lookup.

<workspace>/artifacts/<stage>/<key>/    payload files and manifest.json, whole or absent
<workspace>/checkpoints/<key>/          what a resumable stage leaves behind when it is killed
<workspace>/locks/                      one lock a key, and a note of who holds it
<workspace>/digests.json                digests of source files, by path, size, times and inode
"""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from pipeline import __version__, atomic
from pipeline.errors import MissingInputError, StorageError

if TYPE_CHECKING:
    from pipeline.stages.contract import Stage

FORMAT = 1
KEY_LENGTH = 16
RACY_SECONDS = 2.0
MANIFEST = "manifest.json"
KEY = re.compile(f"[0-9a-f]{{{KEY_LENGTH}}}")
SHA256 = re.compile("[0-9a-f]{64}")
PROMISED: dict[str, type | tuple[type, ...]] = {
    "stage": str, "key": str, "version": int, "section": dict, "inputs": dict, "files_in": dict, "libraries": dict,
    "digest": str, "runtime": dict, "input_keys": dict, "files": dict, "summary": dict,
    "started": (int, float), "seconds": (int, float),
}  # fmt: skip
"""What every manifest has, with its type; one without is as good as missing."""

MAX_HOLDER_CHARS = 200
MAX_CHANGES = 5
"""Changed files that a reason names one by one."""


Manifest = dict[str, Any]


@dataclass(frozen=True)
class Identity:
    """Everything that a stage's result depends on; its digest is the artifact's key."""

    payload: dict[str, Any]

    @property
    def key(self) -> str:
        return atomic.digest_json(self.payload)[:KEY_LENGTH]


class Workspace:
    """The folder that holds artifacts, checkpoints and runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._digests = DigestCache(root / "digests.json")

    def artifact(self, stage: str, key: str) -> Path:
        """Folder of an artifact, whether or not it exists."""
        return self.root / "artifacts" / stage / key

    def checkpoints(self, key: str) -> Path:
        """Folder in which a resumable stage keeps its progress."""
        return self.root / "checkpoints" / key

    def run(self, name: str) -> Path:
        """Folder of a run's view."""
        return self.root / "runs" / name

    def identify(self, stage: Stage, section: Any, seed: int, inputs: Mapping[str, str]) -> Identity:
        """A stage's identity, given the digests of its inputs.

        Raises MissingInputError when a source file does not exist.
        """
        files = {label: self._digests.of(paths) for label, paths in stage.files(section).items()}
        self._digests.save()
        return Identity(
            {
                "format": FORMAT,
                "stage": stage.name,
                "version": stage.version,
                "section": section.identity(),
                "seed": seed if stage.seeded else None,
                "inputs": dict(inputs),
                "files_in": files,
                "libraries": {name: library_version(name) for name in stage.libraries},
            }
        )

    def find(self, stage: str, key: str) -> tuple[Manifest | None, str]:
        """The manifest of a whole artifact, or None and what is wrong with what is there ("" when nothing is)."""
        folder = self.artifact(stage, key)
        if not folder.is_dir():
            return None, ""
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

    def differences(self, identity: Identity) -> list[str]:
        """How an identity differs from the nearest earlier artifact of its stage, in words; [] without one."""
        payload = identity.payload
        candidates = [describe_differences(manifest, payload) for manifest in self.manifests(payload["stage"])]
        return min((c for c in candidates if c), key=len, default=[])

    @contextmanager
    def lock(self, stage: str, key: str, on_wait: Callable[[str], None]) -> Iterator[None]:
        """Hold the one builder's lock of a key; it is the operating system's and dies with its holder."""
        folder = self.root / "locks"
        self.check_inside("locks", "artifacts", "checkpoints", "runs")
        self.check_inside(*([f"runs/{key}"] if stage == "run" else [f"artifacts/{stage}", f"checkpoints/{key}"]))
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
            atomic.write_bytes(holder, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def is_locked(self, stage: str, key: str) -> bool:
        """Whether somebody is building an artifact just now."""
        path = self.root / "locks" / f"{stage}-{key}.lock"
        if not path.exists():
            return False
        try:
            with FileLock(path, blocking=False):
                return False
        except Timeout:
            return True

    @contextmanager
    def unless_locked(self, stage: str, key: str) -> Iterator[bool]:
        """Hold a key's lock inside the block, unless somebody is building; says whether it is held."""
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
        what is in its place then is set aside. Only for the lock's holder: it clears what killed builders left."""
        for leftover in (self.root / "artifacts" / stage).glob(f"{atomic.TEMPORARY_PREFIX}{key}-*"):
            atomic.remove(leftover)
        with atomic.replacing_folder(self.artifact(stage, key), lambda: self.set_aside(stage, key)) as folder:
            yield folder

    def set_aside(self, stage: str, key: str) -> Path:
        """Move an artifact out of the way, keeping its bytes, and return where it went."""
        folder = self.artifact(stage, key)
        number = 1
        while (aside := folder.with_name(f"aside-{key}-{number}")).exists():
            number += 1
        os.rename(folder, aside)
        return aside


class DigestCache:
    """Digests of source files, recomputed only when path, size, times or inode differ."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[Any]] | None = None
        self._changed = False

    def of(self, paths: Sequence[Path]) -> str:
        """One digest for the contents of files in the given order."""
        digests = [self._digest(path) for path in paths]
        return digests[0] if len(digests) == 1 else atomic.digest_json(digests)

    def _digest(self, path: Path) -> str:
        if self._known is None:
            self._known = _read_json(self._path) or {}
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
        if self._changed and self._path.parent.is_dir():
            with suppress(OSError, StorageError):
                atomic.write_json(self._path, self._known)
            self._changed = False


def seal(
    folder: Path,
    stage: Stage,
    identity: Identity,
    section: Any,
    input_keys: Mapping[str, str],
    summary: Any,
    started: float,
) -> Manifest:
    """Digest and fsync the files of a finished stage and write its manifest, last. Returns the manifest."""
    files = {}
    for name in atomic.list_files(folder):
        path = folder / name
        kind = "record" if any(fnmatch(name, pattern) for pattern in stage.records) else "result"
        files[name] = {"size": path.stat().st_size, "sha256": atomic.digest_file(path), "kind": kind}
        path.chmod(0o444)
    identified = section.identity()
    whole = section.model_dump(mode="json", by_alias=True)
    manifest = {
        **identity.payload,
        "key": identity.key,
        "digest": content_digest(files),
        "runtime": {name: value for name, value in whole.items() if name not in identified},
        "input_keys": dict(input_keys),
        "files": files,
        "summary": summary,
        "started": started,
        "seconds": round(time.time() - started, 3),
        "descent": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    manifest = json.loads(json.dumps(manifest, allow_nan=False))  # as it will be read back
    manifest["seal"] = atomic.digest_json(manifest)
    atomic.fsync_tree(folder)
    atomic.write_json(folder / MANIFEST, manifest)
    return manifest


def content_digest(files: Mapping[str, Mapping[str, Any]], part: str = "") -> str:
    """Digest of the result files of a manifest, or of those below the folder `part`."""
    prefix = f"{part}/" if part else ""
    return atomic.digest_json(
        {
            name: entry["sha256"]
            for name, entry in files.items()
            if entry["kind"] == "result" and name.startswith(prefix)
        }
    )


def input_digests(stage: Stage, manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """The digests that enter a stage's identity, from the manifests of its upstream stages."""
    digests = {}
    for name in stage.inputs:
        upstream, _, part = name.partition("/")
        digests[name] = content_digest(manifests[upstream]["files"], part)
    return digests


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of an artifact folder; None when it is missing, altered, of another folder or of another format."""
    manifest = _read_json(folder / MANIFEST)
    if manifest is None or manifest.get("format") != FORMAT:
        return None
    try:
        whole = atomic.digest_json({name: value for name, value in manifest.items() if name != "seal"})
    except (ValueError, RecursionError):
        return None
    return manifest if manifest.get("seal") == whole and _has_its_shape(manifest, folder) else None


def _has_its_shape(manifest: Manifest, folder: Path) -> bool:
    """Whether everything that is promised is there with its type, belongs to this folder, and names files inside it."""
    if not all(isinstance(manifest.get(name), kind) for name, kind in PROMISED.items()):
        return False
    files = manifest["files"]
    return (
        "seed" in manifest
        and (manifest["stage"], manifest["key"]) == (folder.parent.name, folder.name)
        and all(isinstance(key, str) and is_key(key) for key in manifest["input_keys"].values())
        and all(isinstance(entry, dict) and _is_entry(name, entry) for name, entry in files.items())
        and manifest["digest"] == content_digest(files)
    )


def _is_entry(name: str, entry: Mapping[str, Any]) -> bool:
    inside = all(part not in ("", ".", "..") for part in name.split("/")) and name.isprintable() and "\\" not in name
    sized = isinstance(entry.get("size"), int) and entry.get("kind") in ("result", "record")
    return inside and sized and bool(SHA256.fullmatch(str(entry.get("sha256"))))


def check_sizes(folder: Path, manifest: Manifest) -> str:
    """What is wrong with the names and sizes of an artifact's files; "" when they are as the manifest says."""
    for name, entry in manifest["files"].items():
        try:
            status = (folder / name).lstat()
        except OSError:
            return f"the artifact file {folder / name} is missing"
        if not stat.S_ISREG(status.st_mode):
            return f"the artifact file {folder / name} is no regular file"
        if status.st_size != entry["size"]:
            return f"the artifact file {folder / name} has {status.st_size:,} bytes instead of {entry['size']:,}"
    added = set(atomic.list_files(folder)) - manifest["files"].keys() - {MANIFEST}
    return f"the artifact file {folder / min(added)} does not belong there" if added else ""


def describe_differences(earlier: Mapping[str, Any], payload: Mapping[str, Any]) -> list[str]:
    """Differences between an earlier manifest and an identity's payload, one line each."""
    stage = payload["stage"]
    lines = []
    if earlier["version"] != payload["version"]:
        lines.append(f"stage version {earlier['version']} -> {payload['version']}")
    before, after = _flatten(earlier["section"], stage), _flatten(payload["section"], stage)
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after or before[name] != after[name]:
            lines.append(f"{name} {_shown(before, name)} -> {_shown(after, name)}")
    if earlier["seed"] != payload["seed"]:
        lines.append(f"run.seed {earlier['seed']} -> {payload['seed']}")
    lines += describe_changes("source", earlier["files_in"], payload["files_in"])
    lines += describe_changes("input", earlier["inputs"], payload["inputs"])
    for name, new in payload["libraries"].items():
        old = earlier["libraries"].get(name)
        if old != new:
            lines.append(f"{name} {old} -> {new}")
    return lines


def describe_changes(what: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Which names came, went or changed their digest; many of one kind are counted, not listed."""
    kinds = {
        "removed": [name for name in before if name not in after],
        "added": [name for name in after if name not in before],
        "changed": [name for name in after if name in before and before[name] != after[name]],
    }
    lines = []
    for kind, names in kinds.items():
        if len(names) > MAX_CHANGES:
            lines.append(f"{len(names):,} {what}s {kind}, the first {names[0]}")
        else:
            lines += [f"{what} {name} {kind}" for name in names]
    return lines


def _flatten(value: Any, prefix: str) -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {k: v for name, item in value.items() for k, v in _flatten(item, f"{prefix}.{name}").items()}
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return {k: v for i, item in enumerate(value) for k, v in _flatten(item, f"{prefix}.{i}").items()}
    return {prefix: value}


def _shown(values: Mapping[str, Any], name: str) -> str:
    return "(not given)" if name not in values else json.dumps(values[name], ensure_ascii=False)


@cache
def library_version(name: str) -> str | None:
    """Version of an installed distribution, without importing it; None when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def is_key(name: str) -> bool:
    """Whether a folder's name is that of an artifact, not of one being built or set aside."""
    return KEY.fullmatch(name) is not None


def _read_holder(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(MAX_HOLDER_CHARS).strip()
    except OSError:
        return ""


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
        return None
    except OSError as error:
        raise StorageError(f"{path}: cannot read: {error.strerror}") from None
    return value if isinstance(value, dict) else None
