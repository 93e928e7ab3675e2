"""Find damaged artifacts, and what was built from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline.engine.artifacts import Workspace
from pipeline.engine.launches.launch import StageAssignment
from pipeline.engine.manifests import CHECKED, Manifest, content_digest, find_damage, is_key, read_manifest
from pipeline.engine.stage import Stage
from pipeline.engine.work_folders import identity_of, is_checked, works
from pipeline.errors import IN_STAGE, DamageError, DescentError, note_own_code, panics_as_errors
from pipeline.integrity import check_files

Artifact = tuple[str, str]
"""Stage and key."""


def check_inputs(workspace: Workspace, stage: Stage, manifests: Mapping[str, Manifest]) -> None:
    """Compare what a stage will open of its inputs with their digests. Shards and streams are left out: their readers
    compare them. Raises DamageError."""
    for name in stage.upstream:
        manifest = manifests[name]
        opened = [
            (file, entry["sha256"])
            for file, entry in manifest["files"].items()
            if stage.opens(workspace.stage(name), file, entry["kind"])
        ]
        check_files(workspace.artifact(name, manifest["key"]), opened)


@contextmanager
def blaming_inputs(workspace: Workspace, assignment: StageAssignment) -> Iterator[None]:
    """When a stage fails, find out whether damage is the cause. After an internal error everything that its inputs were
    made from is read: an earlier version may have built on damage. Other errors get a note with the stage."""
    try:
        with panics_as_errors():
            yield
    except DamageError as error:
        raise DamageError(f"{assignment.stage}: {error}") from error
    except DescentError:
        raise
    except Exception as error:
        for stage, key in with_ancestors(workspace, assignment.inputs.items()):
            if damage := find_damage(workspace.artifact(stage, key)):
                raise DamageError(
                    f"{assignment.stage}: {damage}; `descent verify` sets it aside, then run again to build it anew"
                ) from error
        note_own_code(error)
        error.add_note(f"{IN_STAGE}{assignment.stage}")
        raise


def with_ancestors(workspace: Workspace, artifacts: Iterable[Artifact]) -> Iterator[Artifact]:
    """Artifacts, the nearest first, with all that they were made from."""
    pending, seen = list(artifacts), set()
    while pending:
        artifact = pending.pop(0)
        if artifact not in seen:
            seen.add(artifact)
            yield artifact
            manifest = read_manifest(workspace.artifact(*artifact))
            pending += manifest["input_keys"].items() if manifest else []


class Lineage:
    """Which artifacts and work folders were made from which. Read before anything is set aside."""

    def __init__(self, workspace: Workspace) -> None:
        self._manifests: dict[Artifact, Manifest] = {}
        for folder in workspace.root.glob("artifacts/*/*"):
            if is_key(folder.name) and (manifest := read_manifest(folder)) is not None:
                self._manifests[folder.parent.name, folder.name] = manifest
        self._works = list(works(workspace))

    def doubtful(self, damaged: Iterable[Artifact]) -> tuple[list[Artifact], list[tuple[Stage, Path]]]:
        """Artifacts and work folders that may have been made from damage.

        One that was made from a damaged artifact is right if it compared the digests while it read, which is on record,
        or if it read before the damage, which nobody can tell. What was made from something doubtful is doubtful in any
        case.
        """
        damaged = set(damaged)
        doubtful: list[Artifact] = []
        pending = [child for child in self._children(damaged) if not self._manifests[child].get(CHECKED)]
        while pending:
            new = [artifact for artifact in pending if artifact not in doubtful and artifact not in damaged]
            doubtful += new
            pending = self._children(set(new))
        return doubtful, [one for one in self._works if self._is_doubtful(*one, damaged, doubtful)]

    def _children(self, parents: set[Artifact]) -> list[Artifact]:
        return [child for child, manifest in self._manifests.items() if parents & {*manifest["input_keys"].items()}]

    def _is_doubtful(self, stage: Stage, work: Path, damaged: set[Artifact], doubtful: list[Artifact]) -> bool:
        """Work in progress knows its inputs by their digests alone."""
        if (stage.name, work.name) in doubtful:
            return True
        inputs = (identity_of(work) or {}).get("inputs")
        suspects = [*doubtful, *(() if is_checked(work) else damaged)]
        return isinstance(inputs, dict) and any(self._gives(artifact, inputs) for artifact in suspects)

    def _gives(self, artifact: Artifact, inputs: Mapping[str, str]) -> bool:
        files = self._manifests[artifact]["files"] if artifact in self._manifests else {}
        parts = [name.partition("/") for name in inputs if name.partition("/")[0] == artifact[0]]
        return bool(files) and any(inputs[f"{a}{b}{part}"] == content_digest(files, part) for a, b, part in parts)
