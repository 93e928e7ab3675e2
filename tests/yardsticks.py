"""What costs are held against: work of the same run on the same machine. No two machines take the same seconds, and a
busy one takes several times what it takes alone, so a test bounds a ratio, or counts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

TRIES = 3
"""A neighbour that comes or goes between the two measurements spoils their ratio, hardly three times in a row."""

LIGHT_LIBRARIES = "import typer, pydantic, omegaconf, yaml, filelock"
"""What a command imports that builds nothing. Importing torch takes ten times as long."""


def cpu_of(work: Callable[[], object]) -> float:
    """Processor seconds that a call takes in this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def cpu_of_command(*command: str, cwd: Path | None = None) -> float:
    """Processor seconds of a command, whatever its exit code."""
    return cost_of_command(*command, cwd=cwd)[0]


def cost_of_command(*command: str, cwd: Path | None = None) -> tuple[float, int]:
    """Processor seconds and the peak of memory in bytes of a command, whatever its exit code."""
    process = subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def importing(statement: str = LIGHT_LIBRARIES) -> float:
    """Processor seconds of a fresh Python that imports libraries and ends."""
    return cpu_of_command(sys.executable, "-c", statement)


def assert_costs_at_most(factor: float, cost: Callable[[], float], yardstick: Callable[[], float]) -> None:
    """Fail when `cost()` is more than `factor` times `yardstick()` each time that the two are measured."""
    ratios: list[float] = []
    while len(ratios) < TRIES:
        ratios.append(cost() / yardstick())
        if ratios[-1] <= factor:
            return
    raise AssertionError(f"costs {', '.join(f'{ratio:.2f}' for ratio in ratios)} times its yardstick, not {factor}")
