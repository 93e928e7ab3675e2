"""What a device can do at its best: the peak of which the records of a training give a share."""

from __future__ import annotations

import functools
import json
import math
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from pipeline.atomic import write_json
from pipeline.errors import StorageError
from pipeline.gpus import known_peak
from pipeline.machine import limiting_isa, processor_model
from pipeline.modeling.bf16 import multiplies_bf16
from pipeline.training.recording.matmul_timing import Products

SHORTEST_SECONDS = 0.01
"""A product takes so long at least, so that what surrounds it does not count."""

LARGEST_SIZE = 8192
STEADY_ROUNDS, STEADY_GAIN = 4, 1.01
"""A peak is taken for steady when so many rounds in a row were not faster by more than this."""

MOST_SECONDS = 2.0
CHECKED_ROUNDS = 2
"""Of a peak that is known for the machine: it is kept unless one of them is faster."""


@dataclass(frozen=True)
class Peak:
    """Floating-point operations a second that one device can do, and how that is known: in one word or two, and in
    full."""

    flops_per_second: float
    kind: Literal["data sheet", "measured"]
    source: str


@functools.cache
def peak_of(device: torch.device, precision: str) -> Peak:
    """The peak of a device in a precision (`no`, `bf16`, `fp16`), at least that in float32: from the data sheet where
    its name is known, else measured, which takes a second where it was not measured before."""
    is_tf32 = device.type == "cuda" and torch.get_float32_matmul_precision() != "highest"
    kind = ("tf32" if is_tf32 else "fp32") if precision == "no" else precision
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if (known := known_peak(name, kind)) is not None:
            return Peak(known, "data sheet", f"{kind} on {name}, data sheet")
    peaks = [_measured_peak(device, torch.float32)]
    # What is emulated is computed in float32 and is never faster.
    if precision == "fp16" or (precision == "bf16" and multiplies_bf16(device)):
        peaks.append(_measured_peak(device, {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]))
    return max(peaks, key=lambda peak: peak.flops_per_second)


def _measured_peak(device: torch.device, dtype: torch.dtype) -> Peak:
    """The best that was ever measured of this device with as many threads."""
    kept, name = KeptPeaks.here(), _name(device, dtype)
    rate, size = kept.get(name)
    if rate:
        products = Products(device, dtype, size)
        products.seconds()
        now = max(products.flops / min(products.seconds()) for _ in range(CHECKED_ROUNDS))
    else:
        now, size = _steady_rate(device, dtype)
    if now > rate:
        rate = now
        kept.put(name, rate, size)
    by = f" by {_threads()}" if device.type == "cpu" else ""
    kind = str(dtype).removeprefix("torch.")
    return Peak(rate, "measured", f"{kind} products of {size:,} x {size:,}{by}, the best measured on this machine")


def _steady_rate(device: torch.device, dtype: torch.dtype) -> tuple[float, int]:
    """Operations a second of the fastest of training's products, and the size of their matrices."""
    size = 512
    while True:
        products = Products(device, dtype, size)
        products.seconds()  # makes kernels and wakes the device up
        best = min(products.seconds())
        if best >= SHORTEST_SECONDS or size >= LARGEST_SIZE:
            break
        size *= 2
    deadline, num_steady = time.perf_counter() + MOST_SECONDS, 0
    while num_steady < STEADY_ROUNDS and time.perf_counter() < deadline:
        now = min(products.seconds())
        num_steady = 0 if best > STEADY_GAIN * now else num_steady + 1
        best = min(best, now)
    return products.flops / best, size


class KeptPeaks:
    """Peaks that were measured on this machine, in a file of the user's cache folder; where it cannot be read or
    written, nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @classmethod
    def here(cls) -> KeptPeaks:
        """Those below $XDG_CACHE_HOME, or ~/.cache."""
        with suppress(RuntimeError):  # nobody's home is known
            cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
            return cls(Path(cache) / "descent" / "peaks.json")
        return cls(None)

    def get(self, name: str) -> tuple[float, int]:
        """Operations a second and the size of matrices at which they were measured; zeros where nothing is kept."""
        entry = self._read().get(name)
        if isinstance(entry, dict):
            rate, size = entry.get("flops_per_second"), entry.get("size")
            if isinstance(rate, float) and math.isfinite(rate) and isinstance(size, int) and 0 < size <= LARGEST_SIZE:
                return rate, size
        return 0.0, 0

    def put(self, name: str, rate: float, size: int) -> None:
        """Keep a peak."""
        if self._path is not None:
            with suppress(OSError, StorageError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_json(self._path, {**self._read(), name: {"flops_per_second": rate, "size": size}})

    def _read(self) -> dict[str, object]:
        if self._path is not None:
            with suppress(OSError, ValueError):
                found = json.loads(self._path.read_bytes())
                return found if isinstance(found, dict) else {}
        return {}


def _name(device: torch.device, dtype: torch.dtype) -> str:
    """All on which the rate of products depends."""
    if device.type == "cuda":
        what = [torch.cuda.get_device_name(device), f"float32 {torch.get_float32_matmul_precision()}"]
    else:
        isa = torch.backends.cpu.get_cpu_capability()
        what = [processor_model(), _threads(), isa, limiting_isa(os.environ) or "", device.type]
    return ", ".join(filter(None, [*what, str(dtype), f"torch {torch.__version__}"]))


def _threads() -> str:
    number = torch.get_num_threads()
    return f"{number} thread{'' if number == 1 else 's'}"
