"""Manifests: what an artifact is, which files it holds, and whether they are as it says."""

from __future__ import annotations

import json
import platform
import re
import stat
import time
from collections.abc import Collection, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import __version__, atomic
from pipeline.integrity import MANIFEST, digest_of

if TYPE_CHECKING:
    from pipeline.engine.artifacts import Identity
    from pipeline.engine.stage import Stage

FORMAT = 1
KEY_LENGTH = 16
CHECKED = "inputs_checked"
"""What says that all inputs were compared with their digests as they were read. Earlier versions did not."""

KEY = re.compile(f"[0-9a-f]{{{KEY_LENGTH}}}")
SHA256 = re.compile("[0-9a-f]{64}")
PROMISED: dict[str, type | tuple[type, ...]] = {
    "stage": str, "key": str, "version": int, "section": dict, "inputs": dict, "files_in": dict, "libraries": dict,
    "digest": str, "runtime": dict, "input_keys": dict, "files": dict, "summary": dict,
    "started": (int, float), "seconds": (int, float),
}  # fmt: skip
"""What every manifest has, with its type; one without is as good as missing."""

Manifest = dict[str, Any]


def seal(
    folder: Path,
    stage: Stage,
    identity: Identity,
    section: Any,
    input_keys: Mapping[str, str],
    summary: Any,
    started: float,
    checked: bool = True,
) -> Manifest:
    """Digest and fsync the files of a finished stage and write its manifest, last. `checked` says whether all of its
    inputs were compared with their digests. Returns the manifest."""
    files = {}
    for name in atomic.list_files(folder):
        path = folder / name
        kind = "record" if any(fnmatch(name, pattern) for pattern in stage.records) else "result"
        if stat.S_IMODE(path.stat().st_mode) != 0o444:  # Also of a link it would change the time of the input's file.
            path.chmod(0o444)
        files[name] = {"size": path.stat().st_size, "sha256": digest_of(path), "kind": kind}
    identified = section.identity()
    whole = section.model_dump(mode="json", by_alias=True)
    outside = whole.keys() - identified.keys()
    manifest = {
        **identity.payload,
        "key": identity.key,
        "digest": content_digest(files),
        "runtime": {name: value for name, value in whole.items() if name in outside},
        "given": section.model_dump(mode="json", by_alias=True, exclude_unset=True),
        "input_keys": dict(input_keys),
        CHECKED: checked,
        "files": files,
        "summary": summary,
        "started": started,
        "seconds": round(time.time() - started, 3),
        "descent": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    manifest = json.loads(json.dumps(manifest, allow_nan=False))  # as it will be read back
    manifest = atomic.sealed(manifest)
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
    """The manifest of an artifact folder. None when it is missing, altered, of another folder or of another format."""
    manifest = atomic.read_sealed(folder / MANIFEST)
    if manifest is None or manifest.get("format") != FORMAT:
        return None
    return manifest if _has_its_shape(manifest, folder) else None


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


def warnings_of(manifest: Manifest) -> list[str]:
    """What the stage that made an artifact warns of."""
    found = manifest["summary"].get("warnings")
    return [str(warning) for warning in found] if isinstance(found, list) else []


def check_sizes(folder: Path, manifest: Manifest) -> str:
    """What is wrong with the names and sizes of an artifact's files; "" when they are as the manifest says."""
    for name, entry in manifest["files"].items():
        if problem := _problem_of_size(folder / name, entry):
            return problem
    added = set(atomic.list_files(folder)) - manifest["files"].keys() - {MANIFEST}
    return f"the artifact file {folder / min(added)} does not belong there" if added else ""


def _problem_of_size(path: Path, entry: Mapping[str, Any]) -> str:
    try:
        status = path.lstat()
    except OSError:
        return f"the artifact file {path} is missing"
    if not stat.S_ISREG(status.st_mode):
        return f"the artifact file {path} is no regular file"
    if status.st_size != entry["size"]:
        return f"the artifact file {path} has {status.st_size:,} bytes instead of {entry['size']:,}"
    return ""


def find_damage(folder: Path) -> str:
    """What is wrong with an artifact, after reading all of it; "" when every file is as the manifest says."""
    manifest = read_manifest(folder)
    if manifest is None:
        return f"the artifact {folder} has no readable manifest"
    if problem := check_sizes(folder, manifest):
        return problem
    return next(
        (problem for name, entry in manifest["files"].items() if (problem := _problem(folder / name, entry))), ""
    )


def _problem(path: Path, entry: Mapping[str, Any]) -> str:
    if problem := _problem_of_size(path, entry):
        return problem
    try:
        digest = atomic.digest_file(path)
    except OSError as error:
        return f"the artifact file {path} cannot be read ({error.strerror})"
    return "" if digest == entry["sha256"] else f"the artifact file {path} does not match its digest"


def damaged_records(folder: Path) -> dict[str, str]:
    """What is wrong with each damaged record of an artifact; empty where anything but records is damaged."""
    manifest = read_manifest(folder)
    if manifest is None or set(atomic.list_files(folder)) - manifest["files"].keys() - {MANIFEST}:
        return {}
    files = manifest["files"]
    found = {name: problem for name, entry in files.items() if (problem := _problem(folder / name, entry))}
    return found if all(files[name]["kind"] == "record" for name in found) else {}


def leave_out(folder: Path, records: Collection[str], warning: str) -> None:
    """Write the manifest of an artifact without some of its records, with a warning."""
    manifest = read_manifest(folder)
    assert manifest is not None
    files = {name: entry for name, entry in manifest["files"].items() if name not in records}
    summary = {**manifest["summary"], "warnings": [*warnings_of(manifest), warning]}
    body = {name: value for name, value in manifest.items() if name != "seal"}
    atomic.write_json(folder / MANIFEST, atomic.sealed({**body, "files": files, "summary": summary}))


def is_key(name: str) -> bool:
    """Whether a folder's name is that of an artifact, not of one being built or set aside."""
    return KEY.fullmatch(name) is not None
