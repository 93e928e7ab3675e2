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
    """A process's place among those that a launcher started.

    `machine` is the same for processes of one machine, None where the launcher does not tell. `launcher` is the process
    that watches over this one, None where nobody does.
    """

    index: int
    count: int
    name: str
    machine: str | None
    launcher: int | None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Launch:
        """The launch that the variables set by torchrun and accelerate tell of.

        Raises ConfigError when they are none.
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
    """A stage that all processes carry out together; `inputs` are the keys of its upstream artifacts, `chosen` the
    settings of its section that process 0 chose where they say `auto`."""

    stage: str
    key: str
    inputs: Mapping[str, str]
    chosen: Mapping[str, Any]
