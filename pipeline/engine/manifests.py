"""Manifests: what an artifact is, which files it holds, and how it differs from what is wanted."""

from __future__ import annotations

import json
import platform
import re
import stat
import time
from collections.abc import Collection, Mapping
from difflib import SequenceMatcher
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import __version__, atomic
from pipeline.intact import MANIFEST, digest_of

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

MAX_CHANGES = 5
"""Changed files that a reason names one by one."""

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
    """The manifest of an artifact folder; None when it is missing, altered, of another folder or of another format."""
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


def describe_differences(earlier: Mapping[str, Any], payload: Mapping[str, Any]) -> list[str]:
    """Differences between an earlier manifest and an identity's payload, one line each."""
    stage = payload["stage"]
    lines = []
    if earlier["version"] != payload["version"]:
        lines.append(f"stage version {earlier['version']} -> {payload['version']}")
    lines += _changed_settings(earlier["section"], payload["section"], stage)
    seeds = [found["seed"] for found in (earlier, payload)]
    if seeds[0] != seeds[1] and (None not in seeds or not lines):
        shown = ["(nothing is drawn)" if seed is None else str(seed) for seed in seeds]
        lines.append(f"run.seed {' -> '.join(shown)}")
    lines += describe_changes("source", earlier["files_in"], payload["files_in"])
    lines += describe_changes("input", earlier["inputs"], payload["inputs"])
    for name, new in payload["libraries"].items():
        old = earlier["libraries"].get(name)
        if old != new:
            lines.append(f"{name} {old} -> {new}")
    return lines


def _changed_settings(before: Any, after: Any, place: str) -> list[str]:
    """Differences between settings. Entries of a list, such as sources, are told apart by name and type."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line for name in sorted(before.keys() | after.keys()) for line in _changed_at(name, before, after, place)
        ]
    if isinstance(before, list) and isinstance(after, list) and all(isinstance(one, dict) for one in (*before, *after)):
        return _changed_entries(before, after, place)
    own, new = flatten(before, place), flatten(after, place)
    pairs = {name: (shown_setting(own, name), shown_setting(new, name)) for name in sorted(own.keys() | new.keys())}
    return [f"{name} {old} -> {now}" for name, (old, now) in pairs.items() if old != now]


def _changed_at(name: str, before: Mapping[str, Any], after: Mapping[str, Any], place: str) -> list[str]:
    key = f"{place}.{name}"
    if name in before and name in after:
        return _changed_settings(before[name], after[name], key)
    own, new = (flatten(side[name], key) if name in side else {} for side in (before, after))
    return [f"{leaf} {shown_setting(own, leaf)} -> {shown_setting(new, leaf)}" for leaf in own | new]


def _changed_entries(before: list[dict[str, Any]], after: list[dict[str, Any]], place: str) -> list[str]:
    lines = []
    labels = [[(one.get("type"), one.get("name")) for one in side] for side in (before, after)]
    for what, i, i_end, j, j_end in SequenceMatcher(None, labels[0], labels[1], autojunk=False).get_opcodes():
        gone, come = before[i:i_end], after[j:j_end]
        if what == "equal" or len(gone) == len(come):
            pairs = enumerate(zip(gone, come, strict=True), j)
            lines += [line for n, (old, new) in pairs for line in _changed_settings(old, new, f"{place}.{n}")]
            continue
        for entries, first, word in ((gone, i, "removed"), (come, j, "added")):
            for number, entry in enumerate(entries, first):
                label = entry.get("name") or entry.get("type")
                lines.append(f"{place}.{number} ({label}) {word}" if label else f"{place}.{number} {word}")
    return lines


def have_common_input(earlier: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
    """Whether an earlier manifest and an identity's payload have an input or a source file in common, or, where a stage
    has no inputs, what its section lists, such as a source that is no file."""
    if any({*earlier[name].values()} & {*payload[name].values()} for name in ("inputs", "files_in")):
        return True
    before, after = (_listed(one["section"]) for one in (earlier, payload))
    return not payload["inputs"] and any(item in before for item in after)


def _listed(section: Mapping[str, Any]) -> list[Any]:
    return [item for value in section.values() if isinstance(value, list) for item in value]


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


def flatten(value: Any, prefix: str) -> dict[str, Any]:
    """Settings by dotted key; a list stays one value unless it holds sections."""
    if isinstance(value, dict) and value:
        return {k: v for name, item in value.items() for k, v in flatten(item, f"{prefix}.{name}").items()}
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return {k: v for i, item in enumerate(value) for k, v in flatten(item, f"{prefix}.{i}").items()}
    return {prefix: value}


def shown_setting(values: Mapping[str, Any], name: str) -> str:
    """A flattened setting in words."""
    return "(not given)" if name not in values else json.dumps(values[name], ensure_ascii=False)


def is_key(name: str) -> bool:
    """Whether a folder's name is that of an artifact, not of one being built or set aside."""
    return KEY.fullmatch(name) is not None


def in_short(summary: Mapping[str, Any]) -> str:
    """What became of documents, and how training ended, as far as a summary tells."""
    words = [f"{summary['documents_out']:,} documents"] if "documents_out" in summary else []
    for what in ("rejected", "dropped"):
        words += [f"{count:,} {what}: {reason}" for reason, count in summary.get(what, {}).items()]
    if summary.get("final_loss") is not None:
        words.append(f"loss {summary['final_loss']:.3f}, gradients {summary['gradients']['verdict']}")
    return f"  ({'; '.join(words)})" if words else ""
