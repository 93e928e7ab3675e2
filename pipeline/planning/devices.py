"""The memory of GPUs by name, and of this machine, for `--device`. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.console.terminal_text import did_you_mean
from pipeline.errors import ConfigError
from pipeline.gpus import GPUS

GIB = 2**30

CPU = "cpu"
USABLE = 0.92
"""The share of a device's memory that tensors can have: the rest goes to the driver, libraries and fragmentation."""


@dataclass(frozen=True)
class Device:
    """An accelerator, or the processor of this machine. `memory_bytes` is all that it has."""

    name: str
    memory_bytes: int
    is_cpu: bool = False
    """Nobody lists its peak: it is measured here."""

    @property
    def usable_bytes(self) -> int:
        """What tensors can have of the memory."""
        return int(USABLE * self.memory_bytes)


def device_named(name: str) -> Device:
    """A device by its name, in any case; `cpu` is that of this machine. Raises ConfigError where it is not known."""
    if name.casefold() == CPU:
        import psutil

        return Device("CPU of this machine", psutil.virtual_memory().total, is_cpu=True)
    known = {known.casefold(): (known, gpu.memory_gib) for known, gpu in GPUS.items() if gpu.memory_gib is not None}
    folded = name.casefold().replace("-", " ")
    if folded not in known:
        raise ConfigError(
            f"--device: {name!r} is not known{did_you_mean(folded, [CPU, *(found for found, _ in known.values())])}"
        )
    found, memory_gib = known[folded]
    return Device(found, round(memory_gib * GIB))
