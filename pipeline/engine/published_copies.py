"""Copies in a run's folder that people edit and upload. They are compared by content with the artifacts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline import atomic
from pipeline.engine.artifacts import Workspace
from pipeline.engine.manifests import read_manifest
from pipeline.engine.stage import Stages

CARD = "README.md"
"""What people are meant to edit."""

MENDED = "it is again as the run made it"
Files = Mapping[str, tuple[Path, str]]
"""Files of a folder by name: where each lies in an artifact, and its SHA-256."""


def folders_of(stages: Stages) -> list[str]:
    """The folders of a run that hold copies."""
    places = [place for stage in stages for place in stage.run_folder.copies.values()]
    return list(dict.fromkeys(place.partition("/")[0] for place in places))


def card_of(stages: Stages) -> str:
    """The place of the card in a run's folder; where no stage has one, the place where it would be."""
    places = [place for stage in stages for place in stage.run_folder.copies.values()]
    return next((place for place in places if PurePosixPath(place).name == CARD), f"{folders_of(stages)[0]}/{CARD}")


def shown_files(workspace: Workspace, stages: Mapping[str, Any]) -> dict[str, Files]:
    """The files of each folder of copies, for a run that shows these artifacts. `stages` is as in run.json."""
    found: dict[str, dict[str, tuple[Path, str]]] = {part: {} for part in folders_of(workspace.stages)}
    for stage in (stage for stage in workspace.stages if stage.run_folder.copies and stage.name in stages):
        folder = workspace.artifact(stage.name, stages[stage.name]["key"])
        files = (read_manifest(folder) or {"files": {}})["files"]
        for name, (source, place) in product(files, stage.run_folder.copies.items()):
            if name == source or name.startswith(f"{source}/"):
                part, _, rest = f"{place}{name.removeprefix(source)}".partition("/")
                found[part][rest] = (folder / name, files[name]["sha256"])
    return {**found}


def without_cards(shown: Mapping[str, Files]) -> dict[str, str]:
    """Digests of what `shown_files` has, without what people are meant to edit."""
    every = {f"{part}/{name}": digest for part, files in shown.items() for name, (_, digest) in files.items()}
    return {name: digest for name, digest in every.items() if not name.endswith(f"/{CARD}")}


def forbidden_names_of(stages: Stages) -> tuple[str, ...]:
    """Patterns of names that must not lie beside the copies."""
    return tuple(pattern for stage in stages for pattern in stage.run_folder.forbidden_names)


@dataclass(frozen=True)
class Differences:
    """How a folder differs from what it should hold."""

    wrong: list[str]
    """Files that are missing or changed."""

    outdated: list[str]
    """Files of an earlier result."""

    surplus: list[str]
    """Files that must not lie there; moved to `aside`."""

    further: list[str]
    """Files that the user put there; they stay."""

    card_was_edited: bool
    aside: Path | None = None


def compare(
    files: Files, folder: Path, earlier: Files, digest: Callable[[Path], str], forbidden_names: Sequence[str]
) -> Differences:
    """How a folder differs from `files`. `earlier` is what it was made to hold before. A file that neither lists is the
    user's own; its name must not match `forbidden_names`."""
    if folder.is_symlink() or not folder.is_dir():
        return Differences([*files], [], [], [], False)
    links = {*atomic.list_links(folder)}
    names = {*atomic.list_files(folder)} - links
    edited = card_was_edited(files, folder, earlier, digest)

    def is_one_of(files: Files, name: str) -> bool:
        source, wanted = files[name]
        return (source.exists() and os.path.samefile(source, folder / name)) or digest(folder / name) == wanted

    def is_kept(name: str) -> bool:
        is_stray = any(PurePosixPath(name).match(pattern) for pattern in forbidden_names)
        is_harmless = name.startswith(".") or not is_stray
        return bool(files) and name not in links and is_harmless and not _collides(name, files)

    wrong = [name for name in files if not (name == CARD and edited) and not (name in names and is_one_of(files, name))]
    others = [name for name in sorted((names | links) - files.keys()) if not (name == CARD and edited)]
    outdated = [name for name in others if name in names and name in earlier and is_one_of(earlier, name)]
    further = [name for name in others if name not in outdated and is_kept(name)]
    in_the_way = [name for name in wrong if name in links or (name in names and name not in earlier)]
    surplus = [*in_the_way, *(name for name in others if name not in outdated and name not in further)]
    return Differences(wrong, outdated, surplus, further, edited)


def card_was_edited(files: Files, folder: Path, earlier: Files, digest: Callable[[Path], str]) -> bool:
    """Whether the card is neither the one that should be there nor the one that was put there."""
    card = folder / CARD
    cards = [one[CARD][1] for one in (files, earlier) if CARD in one]
    is_file = card.is_file() and not card.is_symlink()
    return is_file and bool(earlier) and bool(cards) and digest(card) not in cards


def _collides(name: str, files: Files) -> bool:
    """Whether a file would have to be a folder, or the other way round."""
    return any(name == other or name.startswith(f"{other}/") or other.startswith(f"{name}/") for other in files)


def mirror(
    files: Files, folder: Path, earlier: Files, digest: Callable[[Path], str], forbidden_names: Sequence[str]
) -> Differences:
    """Make `folder` hold these files, besides what the user put there or edited. The user's files that do harm are
    moved aside. Where a file is wrong or does not belong there, the folder is replaced as a whole. Returns how it
    differed."""
    recover(folder)
    found = compare(files, folder, earlier, digest, forbidden_names)
    if not (found.wrong or found.outdated or found.surplus):
        return found
    if found.surplus:
        aside = atomic.place_aside(folder)
        found = replace(found, aside=aside)
        for name in found.surplus:
            target = aside / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(folder / name, target)
    elif os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
        target = atomic.place_aside(folder) / folder.name
        target.parent.mkdir(exist_ok=True)
        os.rename(folder, target)
    fresh = folder.with_name(f"{atomic.TEMPORARY_PREFIX}{folder.name}")
    atomic.remove(fresh)
    kept = [*found.further, *([CARD] if found.card_was_edited else [])]
    for name, (source, _) in files.items():
        if name not in kept:
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            _place(source, fresh / name)
    for name in kept:
        (fresh / name).parent.mkdir(parents=True, exist_ok=True)
        atomic.link(folder / name, fresh / name)
    if files:
        for name in (one for one in _empty_folders(folder) if not _collides(one, files)):
            (fresh / name).mkdir(parents=True, exist_ok=True)
    _exchange(fresh, folder)
    return found


def _empty_folders(folder: Path) -> list[str]:
    """Folders without anything in them. git needs them in .git."""
    return [os.path.relpath(root, folder) for root, folders, files in os.walk(folder) if not (folders or files)]


def _exchange(fresh: Path, folder: Path) -> None:
    """Put a folder in the place of another. After a kill at any moment one of them is whole, and `recover` finds it."""
    replaced = _replaced(folder)
    if folder.exists():
        os.rename(folder, replaced)
    if fresh.exists():
        os.rename(fresh, folder)
    _throw_away(replaced)


def recover(folder: Path) -> None:
    """End a replacement of the folder that was killed."""
    replaced = _replaced(folder)
    if not os.path.lexists(folder) and replaced.is_dir() and not replaced.is_symlink():
        os.rename(replaced, folder)
    else:
        _throw_away(replaced)


def _replaced(folder: Path) -> Path:
    return folder.with_name(f".replaced-{folder.name}")


def _throw_away(path: Path) -> None:
    """Rename, then remove. If this is killed, the next run sweeps what has that name."""
    if os.path.lexists(path):
        doomed = path.with_name(f"{atomic.TEMPORARY_PREFIX}{path.name}")
        atomic.remove(doomed)
        os.rename(path, doomed)
        atomic.remove(doomed)


def _place(source: Path, target: Path) -> None:
    """Hard-link what holds tensors and is large; copy what a person may want to edit."""
    if source.suffix == ".safetensors":
        atomic.link(source, target)
    else:
        shutil.copy2(source, target)
        target.chmod(0o644)


def differences_in_words(found: Differences, folder: Path, was_shown: bool) -> list[str]:
    """What a person should know of how a folder differed, after `mirror`."""
    changed = [name for name in sorted(found.wrong) if name not in found.surplus] if was_shown else []
    said = [f"{folder / name} was not as the run made it: {MENDED}" for name in changed]
    said += [f"{folder / name} is not of this run: moved to {found.aside}; {MENDED}" for name in found.surplus]
    if found.card_was_edited:
        said.append(f"{folder / CARD} was edited and stays so")
    return said
