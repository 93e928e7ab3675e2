"""Folders of a run that people copy, edit and upload: made of files of artifacts, and compared with them by content."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.artifacts import Workspace
from pipeline.manifests import read_manifest

CARD = "README.md"
"""What people are meant to edit."""

FOLDERS = ("model", "adapter")
MENDED = "it is again as the run made it"
LOADED = (".safetensors", ".bin", ".json", ".py", ".jinja", ".model", ".txt")
"""Files in a model's folder that transformers may take: one more of these makes another model of it."""

Files = Mapping[str, tuple[Path, str]]
"""Files of a folder by name: where each lies in an artifact, and its SHA-256."""


def shown_files(workspace: Workspace, stages: Mapping[str, Any]) -> dict[str, Files]:
    """What `model/` and `adapter/` of a run hold that shows these artifacts, given by stage as in run.json."""
    found: dict[str, dict[str, tuple[Path, str]]] = {part: {} for part in FOLDERS}
    for stage, prefix in (("train", ""), ("report", "model_card.md")):
        folder = workspace.artifact(stage, stages[stage]["key"]) if stage in stages else None
        manifest = read_manifest(folder) if folder is not None else None
        for name, entry in manifest["files"].items() if manifest is not None else ():
            assert folder is not None
            part, _, rest = (f"model/{CARD}" if name == prefix else name).partition("/")
            if part in FOLDERS:
                found[part][rest] = (folder / name, entry["sha256"])
    return {**found}


def weights_of(shown: Mapping[str, Files]) -> dict[str, str]:
    """Digests of what `shown_files` has of `model/`, the card aside."""
    return {name: digest for name, (_, digest) in shown["model"].items() if name != CARD}


@dataclass(frozen=True)
class Differences:
    """How a folder differs from what it should hold: files that are missing or others, those that do not belong there,
    further ones that somebody put there, which stay, and whether the card was edited."""

    wrong: list[str]
    surplus: list[str]
    further: list[str]
    card_was_edited: bool


def compare(files: Files, folder: Path, earlier: Files, digest: Callable[[Path], str]) -> Differences:
    """`earlier` is what the folder should have held before; where it is not known, nothing that lies there is anybody's
    own."""
    if folder.is_symlink() or not folder.is_dir():
        return Differences([*files], [], [], False)
    links = set(atomic.list_links(folder))
    names = {*atomic.list_files(folder)} - links
    cards = [one[CARD][1] for one in (files, earlier) if CARD in one]
    edited = CARD in names and bool(earlier) and bool(cards) and digest(folder / CARD) not in cards
    is_known = bool(earlier.keys() - {CARD})
    wrong = [
        name
        for name, (source, wanted) in files.items()
        if not (name == CARD and edited)
        and not (name in names and (os.path.samefile(source, folder / name) or digest(folder / name) == wanted))
    ]
    others = [name for name in sorted((names | links) - files.keys()) if not (name == CARD and edited)]
    further = [name for name in others if is_known and name not in links and name not in earlier and _is_own(name)]
    return Differences(wrong, [name for name in others if name not in further], further, edited)


def _is_own(name: str) -> bool:
    return name.startswith(".") or not name.endswith(LOADED)


def mirror(files: Files, folder: Path, earlier: Files, digest: Callable[[Path], str]) -> Differences:
    """Make `folder` hold these files, and what people put there or edited that does no harm: where a file is wrong or
    does not belong there, the folder is replaced as a whole. Returns how it differed."""
    found = compare(files, folder, earlier, digest)
    if found.wrong or found.surplus:
        fresh = folder.with_name(f"{atomic.TEMPORARY_PREFIX}{folder.name}")
        atomic.remove(fresh)
        kept = [*found.further, *([CARD] if found.card_was_edited else [])]
        for name, (source, _) in files.items():
            if name not in kept:
                (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                _place(source, fresh / name)
        for name in kept:
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / name, fresh / name)
        atomic.remove(folder)
        os.rename(fresh, folder)
    return found


def _place(source: Path, target: Path) -> None:
    """Hard-link weights, which are large; copy what a person may want to edit."""
    if source.suffix == ".safetensors":
        atomic.link(source, target)
    else:
        shutil.copy2(source, target)
        target.chmod(0o644)


def in_words(found: Differences, folder: Path, was_shown: bool) -> list[str]:
    """What a person should know of how a folder differed from what it showed, after `mirror`."""
    said = []
    if was_shown and (changed := sorted([*found.wrong, *found.surplus])):
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        said.append(f"{folder / changed[0]}{more} had been changed: {MENDED}")
    if found.card_was_edited:
        said.append(f"{folder / CARD} was edited and stays so")
    return said
