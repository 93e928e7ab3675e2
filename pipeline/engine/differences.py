"""How settings, identities and runs differ, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

MAX_CHANGES = 5
"""Changed files that a reason names one by one."""


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
    for what, missing in (("libraries", "(not used)"), ("facts", "(not recorded)")):
        before, after = earlier.get(what, {}), payload.get(what, {})
        pairs = {name: (before.get(name, missing), after.get(name, missing)) for name in before | after}
        lines += [f"{name} {old} -> {new}" for name, (old, new) in pairs.items() if old != new]
    return lines


def _changed_settings(before: Any, after: Any, place: str) -> list[str]:
    """Differences between settings. Entries of a list, such as sources, are told apart by name and type."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line for name in sorted(before.keys() | after.keys()) for line in _changed_at(name, before, after, place)
        ]
    if isinstance(before, list) and isinstance(after, list) and all(isinstance(one, dict) for one in (*before, *after)):
        return _changed_entries(before, after, place)
    if (before is None and isinstance(after, dict)) or (after is None and isinstance(before, dict)):
        old, now = ("its defaults" if one == {} else shown_setting({place: one}, place) for one in (before, after))
        return [f"{place} {old} -> {now}"]
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
    """Whether an earlier manifest and an identity's payload share an input or a source file. Where a stage has no
    inputs: whether their sections list something in common, such as a source that is no file."""
    if any({*earlier[name].values()} & {*payload[name].values()} for name in ("inputs", "files_in")):
        return True
    before, after = (_listed(one["section"]) for one in (earlier, payload))
    return not payload["inputs"] and any(item in before for item in after)


def _listed(section: Mapping[str, Any]) -> list[Any]:
    return [item for value in section.values() if isinstance(value, list) for item in value]


def describe_changes(what: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Which names came, went or changed their digest. Many of one kind are counted, not listed."""
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


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Settings by dotted key; a list stays one value unless it holds sections."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or (prefix and not value):
        return {prefix: value}
    keys = {name: f"{prefix}.{name}" if prefix else str(name) for name in value}
    return {k: v for name, item in value.items() for k, v in flatten(item, keys[name]).items()}


def shown_setting(values: Mapping[str, Any], name: str) -> str:
    """A flattened setting in words."""
    return "(not given)" if name not in values else json.dumps(values[name], ensure_ascii=False)


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys of flattened settings that differ between runs. Name and workspace of the run do not count."""
    keys = dict.fromkeys(key for own in settings for key in own)
    names = ("run.name", "run.workspace")
    first = settings[0]
    return [
        key
        for key in keys
        if key not in names and any(key not in own or key not in first or own[key] != first[key] for own in settings)
    ]
