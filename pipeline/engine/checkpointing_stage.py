"""What a long stage declares: what its checkpoints are, and where it goes on from."""

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
    """Work of a stage under another key that differs in its settings alone.

    `payload` is what it is of; settings that it does not know yet are at their default. `work` is its work folder,
    which may be gone.
    """

    key: str
    payload: Payload
    wanted: Payload
    work: Path

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
class Outset:
    """What a long stage may look at before it begins: its settings, what its key is made of, its work folder, the
    summaries of the stages that it reads, and other work of the stage in this workspace."""

    config: Section
    payload: Payload
    work: Path
    summaries: Mapping[str, Mapping[str, Any]]
    others: Callable[[], Iterable[OtherWork]]


@dataclass(frozen=True)
class Continuation:
    """A checkpoint of other work to go on from, and why in words."""

    key: str
    checkpoint: Path
    reason: str


@dataclass(frozen=True)
class Checkpointing:
    """What a stage declares that saves its progress in `context.work`, and goes on from there when it was killed.

    `saved(work)` lists whole checkpoints, oldest first. `point(checkpoint)` says where it was made ("step 300").
    `problem_of(checkpoint)` says what is wrong with its bytes, None for nothing. `set_aside(checkpoint)` sees to it
    that nothing goes on from it, and returns where it went.

    A stage may also go on from the checkpoint of other work, such as a shorter training. `find(outset)` gives the best
    one that is further than its own, or None, with remarks on what could not be used. `adopt(checkpoint, work)` puts
    all that it needs into `work`, and leaves the other work as it is. `asks(section)` is not empty where the settings
    leave to other work what they are: it says what to do in a workspace without any that is finished. `choose(outset)`
    then gives these settings.
    """

    saved: Callable[[Path], list[Path]]
    point: Callable[[Path], str]
    problem_of: Callable[[Path], str | None]
    set_aside: Callable[[Path], Path]
    find: Callable[[Outset], tuple[Continuation | None, tuple[str, ...]]] = field(default=lambda outset: (None, ()))
    adopt: Callable[[Path, Path], None] = field(default=lambda checkpoint, work: None)
    asks: Callable[[Any], str] = field(default=lambda section: "")
    choose: Callable[[Outset], Mapping[str, Any]] = field(default=lambda outset: {})

    def resume_point(self, work: Path) -> str | None:
        """Where a killed stage would go on, in words, without verifying the checkpoint."""
        saved = self.saved(work)
        return self.point(saved[-1]) if saved else None
