"""Accelerators by name: memory; their peaks are in training.throughput. Imports nothing heavy."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from pipeline.errors import ConfigError

GIB = 2**30

MEMORY_GIB = {
    # From the makers' data sheets.
    "B200": 180,
    "H200": 141,
    "H100": 80,
    "A100": 80,
    "A10G": 24,
    "L40S": 48,
    "L4": 24,
    "RTX 4090": 24,
    "RTX 3090": 24,
    "V100": 32,
    "T4": 16,
    "MI300X": 192,
    "MI325X": 256,
}

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
    known = {known.casefold(): known for known in MEMORY_GIB}
    folded = name.casefold().replace("-", " ")
    if folded not in known:
        nearest = difflib.get_close_matches(folded, known, n=1)
        hint = f"did you mean {known[nearest[0]]}?" if nearest else f"known: {', '.join(MEMORY_GIB)}"
        raise ConfigError(f"--device: {name!r} is not known; {hint}")
    return Device(known[folded], MEMORY_GIB[known[folded]] * GIB)
