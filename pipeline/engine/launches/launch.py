"""Which of how many processes this one is, and what all of them carry out together."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.atomic import digest_json
from pipeline.errors import ConfigError


def is_local_main_process(environ: Mapping[str, str]) -> bool:
    """Whether this process prints errors that all processes meet: true for the first process of each machine."""
    return environ.get("LOCAL_RANK", "0") == "0"


@dataclass(frozen=True)
class Launch:
    """A process's place among those that a launcher started."""

    index: int
    count: int
    name: str

    machine: str | None
    """The same for processes of one machine. None where the launcher does not tell."""

    launcher: int | None
    """The process that watches over this one, if there is one."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Launch:
        """The launch that the environment describes: the variables of torchrun and accelerate.

        Raises ConfigError when RANK and WORLD_SIZE make no sense.
        """
        index, count = environ.get("RANK", "0"), environ.get("WORLD_SIZE", "1")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise ConfigError(
                f"the environment says RANK {index} and WORLD_SIZE {count}, as no launcher does; "
                "unset them, or start with torchrun"
            )
        parts = [environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "WORLD_SIZE")]
        # A loopback address and its port may be another launch's on another machine.
        if environ.get("LOCAL_WORLD_SIZE") == count:
            parts += [socket.gethostname(), str(os.getppid())]
        return cls(
            index=int(index),
            count=int(count),
            name=digest_json(parts)[:16],
            machine=environ.get("GROUP_RANK"),
            launcher=os.getppid() if "TORCHELASTIC_RUN_ID" in environ and int(count) > 1 else None,
        )

    def is_orphaned(self) -> bool:
        """Whether the launcher is gone, so that nobody would end this process."""
        return self.launcher is not None and os.getppid() != self.launcher


@dataclass(frozen=True)
class StageAssignment:
    """A stage that all processes carry out together."""

    stage: str
    key: str

    inputs: Mapping[str, str]
    """Keys of the upstream artifacts, by stage."""

    chosen: Mapping[str, Any]
    """Settings that say `auto`, with what process 0 chose."""
