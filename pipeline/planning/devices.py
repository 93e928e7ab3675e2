"""The memory of GPUs by name, for `--device`. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.console.terminal_text import did_you_mean
from pipeline.errors import ConfigError
from pipeline.gpus import GPUS

GIB = 2**30

USABLE = 0.92
"""The share of a device's memory that tensors can have: the rest goes to the driver, libraries and fragmentation."""


@dataclass(frozen=True)
class Device:
    """An accelerator. `memory_bytes` is all that it has."""

    name: str
    memory_bytes: int

    @property
    def usable_bytes(self) -> int:
        """What tensors can have of the memory."""
        return int(USABLE * self.memory_bytes)


def device_named(name: str) -> Device:
    """A device by its name, in any case. Raises ConfigError for one that is not known."""
    known = {known.casefold(): (known, gpu.memory_gib) for known, gpu in GPUS.items() if gpu.memory_gib is not None}
    folded = name.casefold().replace("-", " ")
    if folded not in known:
        raise ConfigError(
            f"--device: {name!r} is not known{did_you_mean(folded, [found for found, _ in known.values()])}"
        )
    found, memory_gib = known[folded]
    return Device(found, round(memory_gib * GIB))
