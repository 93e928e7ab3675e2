"""Accelerators by name: memory; their peaks are in training.throughput. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config.mistakes import nearest
from pipeline.errors import ConfigError

GIB = 2**30

MEMORY_GIB = {
    # As nvidia-smi and rocm-smi report it: where the memory corrects its errors less than the name says.
    "B200": 179,
    "H200": 140.4,
    "H100 NVL": 93.6,
    "H100": 79.6,
    "A100": 80,
    "A100 40GB": 40,
    "A40": 45,
    "A10G": 22.5,
    "L40S": 45,
    "L40": 45,
    "L4": 22.5,
    "RTX 4090": 24,
    "RTX 3090": 24,
    "V100": 32,
    "V100 16GB": 16,
    "T4": 15,
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
        raise ConfigError(f"--device: {name!r} is not known{nearest(folded, MEMORY_GIB)}")
    return Device(known[folded], round(MEMORY_GIB[known[folded]] * GIB))
