"""What a long stage declares: its checkpoints, and where it goes on from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.engine.differences import describe_differences
from pipeline.section import Section

Payload = Mapping[str, Any]
"""What a key is the digest of, as manifests have it."""


@dataclass(frozen=True)
class OtherWork:
    """Work of a stage under another key that differs in its settings alone."""

    key: str

    payload: Payload
    """What its key is the digest of. Settings that are newer than this work are at their default."""

    wanted: Payload
    """The same of the work that is wanted now."""

    work: Path
    """Its work folder, which may be gone."""

    @property
    def section(self) -> dict[str, Any]:
        """Its settings that enter the key."""
        return dict(self.payload["section"])

    @property
    def summary(self) -> dict[str, Any] | None:
        """What the stage returned; None where it was not finished."""
        found = self.payload.get("summary")
        return found if isinstance(found, dict) else None

    @property
    def differences(self) -> list[str]:
        """What is wanted now instead, in words."""
        return describe_differences(self.payload, self.wanted)


@dataclass(frozen=True)
class StageStart:
    """What a long stage may look at before it begins."""

    config: Section

    payload: Payload
    """What its key is the digest of."""

    work: Path
    """Its work folder."""

    summaries: Mapping[str, Mapping[str, Any]]
    """Of the stages that it reads, by stage."""

    others: Callable[[], Iterable[OtherWork]]
    """Finds other work of the stage in this workspace."""


@dataclass(frozen=True)
class Continuation:
    """A checkpoint of other work to go on from, and why in words."""

    key: str
    checkpoint: Path
    reason: str


@dataclass(frozen=True)
class Checkpointing:
    """How a stage that saves checkpoints in `context.work` goes on after a kill."""

    list_checkpoints: Callable[[Path], list[Path]]
    """The whole checkpoints of a work folder, oldest first."""

    describe: Callable[[Path], str]
    """Where a checkpoint was made, in words ("step 300")."""

    problem_of: Callable[[Path], str | None]
    """What is wrong with a checkpoint's bytes; None for nothing."""

    set_aside: Callable[[Path], Path]
    """Moves a checkpoint to where nothing goes on from it, and returns that place."""

    find_continuation: Callable[[StageStart], tuple[Continuation | None, tuple[str, ...]]] = field(
        default=lambda start: (None, ())
    )
    """The best checkpoint of other work, such as a shorter training, that is further than the stage's own, or None; and
    remarks on what could not be used."""

    adopt: Callable[[Path, Path], None] = field(default=lambda checkpoint, work: None)
    """Puts all that a checkpoint of other work needs into the work folder. The other work stays as it is."""

    missing_settings: Callable[[Any], str] = field(default=lambda config: "")
    """Empty where the settings are complete; else the error to show when the workspace has no finished work to take
    them from."""

    choose_settings: Callable[[StageStart], Mapping[str, Any]] = field(default=lambda start: {})
    """The settings that are taken from other work, where `missing_settings` is not empty."""

    def resume_point(self, work: Path) -> str | None:
        """Where a killed stage would go on, in words, without verifying the checkpoint."""
        saved = self.list_checkpoints(work)
        return self.describe(saved[-1]) if saved else None
