"""How fast a training is: tokens a second, the share of the hardware's peak, where the time goes, and peak memory.

All tags begin with `throughput/`, `time/` or `memory/`: what is measured, and so differs from run to run.
"""

from __future__ import annotations

import re
import resource
import sys
import time
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from pipeline.modeling.flops import training_flops_per_token

PHASES = ("data", "forward_backward", "optimizer", "rest")
CALIBRATION_SECONDS = 0.1
SHORTEST_PRODUCT_SECONDS = 0.01
LARGEST_PRODUCT = 8192

_TERA = 1e12
GPU_PEAKS: dict[str, dict[str, float]] = {
    # Dense tera-operations a second from the makers' data sheets, products in bf16 summed in fp32. Where a sheet
    # gives sparse figures, half of them. The first name whose words are in the device's name counts.
    "B200": {"bf16": 2250, "fp16": 2250, "tf32": 1125, "fp32": 75},
    "B100": {"bf16": 1750, "fp16": 1750, "tf32": 875, "fp32": 60},
    "GH200": {"bf16": 989, "fp16": 989, "tf32": 494, "fp32": 67},
    "H200 NVL": {"bf16": 835, "fp16": 835, "tf32": 417, "fp32": 60},
    "H200": {"bf16": 989, "fp16": 989, "tf32": 494, "fp32": 67},
    "H100 PCIe": {"bf16": 756, "fp16": 756, "tf32": 378, "fp32": 51},
    "H100 NVL": {"bf16": 835, "fp16": 835, "tf32": 417, "fp32": 60},
    "H100": {"bf16": 989, "fp16": 989, "tf32": 494, "fp32": 67},
    "A100": {"bf16": 312, "fp16": 312, "tf32": 156, "fp32": 19.5},
    "A40": {"bf16": 150, "fp16": 150, "tf32": 75, "fp32": 37.4},
    "A10G": {"bf16": 70, "fp16": 70, "tf32": 35, "fp32": 35},
    "L40S": {"bf16": 362, "fp16": 362, "tf32": 183, "fp32": 91.6},
    "L40": {"bf16": 181, "fp16": 181, "tf32": 90.5, "fp32": 90.5},
    "L4": {"bf16": 121, "fp16": 121, "tf32": 60, "fp32": 30.3},
    "RTX 4090": {"bf16": 165, "fp16": 165, "tf32": 82.6, "fp32": 82.6},
    "RTX 3090": {"bf16": 71, "fp16": 71, "tf32": 35.6, "fp32": 35.6},
    "V100-PCIE": {"fp16": 112, "fp32": 14},
    "V100": {"fp16": 125, "fp32": 15.7},
    "T4": {"fp16": 65, "fp32": 8.1},
    "MI325X": {"bf16": 1307, "fp16": 1307, "tf32": 654, "fp32": 163},
    "MI300X": {"bf16": 1307, "fp16": 1307, "tf32": 654, "fp32": 163},
}


@dataclass(frozen=True)
class Peak:
    """Floating-point operations a second that one device can do, and how that is known."""

    flops_per_second: float
    source: str


class Meter:
    """Measures the steps of a training: `start` one, `mark` the end of each of its phases, `stop` it.

    On a GPU marks are events on its stream, which wait for nothing; they are read when a record is due. The time of
    `data` is then that for which the GPU waited for data.
    """

    def __init__(
        self, model: PreTrainedModel, length: int, peak: Peak, device: torch.device, num_processes: int
    ) -> None:
        self.flops_per_token = training_flops_per_token(model, length)
        self._peak = peak.flops_per_second * num_processes
        self._device = device
        self._reset()

    def start(self) -> None:
        """A step begins."""
        self._marks.append(("", self._now()))

    def mark(self, phase: str) -> None:
        """What happened since the last mark was of this phase, one of PHASES."""
        self._marks.append((phase, self._now()))

    def stop(self, num_tokens: int) -> None:
        """The step is over; so many tokens of all processes, without padding, were in it."""
        self.mark("rest")
        self._num_steps += 1
        self._num_tokens += num_tokens

    def read(self) -> dict[str, float]:
        """Means over the steps since the last call. Waits for the device.

        tokens_per_second (of all processes, without padding), mfu (model FLOPs utilization: the share of the peak of
        all devices, Chowdhery et al. 2022, section 4.1), seconds a step by phase, and the highest memory use so far
        of this process: resident on the CPU, allocated by torch on a GPU.
        """
        phases = dict.fromkeys(PHASES, 0.0)
        for (_, before), (phase, after) in zip(self._marks, self._marks[1:], strict=False):
            if phase:
                phases[phase] += _seconds_between(before, after)
        speed = self._num_tokens / sum(phases.values())
        times = {f"time/{phase}_seconds": total / self._num_steps for phase, total in phases.items()}
        values = {
            "throughput/tokens_per_second": speed,
            "throughput/mfu": speed * self.flops_per_token / self._peak,
            **times,
            "memory/peak_bytes": float(peak_memory_bytes(self._device)),
        }
        self._reset()
        return values

    def _reset(self) -> None:
        self._marks: list[tuple[str, float | torch.cuda.Event]] = []
        self._num_steps, self._num_tokens = 0, 0

    def _now(self) -> float | torch.cuda.Event:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def peak_of(device: torch.device, precision: str) -> Peak:
    """The peak of a device for products in a precision (`no`, `bf16`, `fp16`): from the data sheet where its name is
    known, else measured by a large matrix product, which takes about 0.2 s."""
    kind = precision
    if precision == "no":
        kind = "fp32" if torch.get_float32_matmul_precision() == "highest" else "tf32"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if (known := known_peak(name, kind)) is not None:
            return Peak(known, f"{kind} on {name}, data sheet")
    return _measured_peak(device, {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32))


def known_peak(name: str, kind: str) -> float | None:
    """Operations a second of a GPU by its name, for `bf16`, `fp16`, `tf32` or `fp32`; None where it is not known."""
    words = ((rf"\b{part}\b", peaks) for part, peaks in GPU_PEAKS.items())
    found = next((peaks for pattern, peaks in words if re.search(pattern, name, re.IGNORECASE)), {})
    return found[kind] * _TERA if kind in found else None


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory that this process has used so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


@torch.no_grad()
def _measured_peak(device: torch.device, dtype: torch.dtype) -> Peak:
    """The best of some square products, as large as it takes to fill the device; uses no random numbers."""
    size = 512
    while True:
        factor = torch.ones(size, size, dtype=dtype, device=device)
        _timed_product(factor)
        best = _timed_product(factor)
        if best >= SHORTEST_PRODUCT_SECONDS or size >= LARGEST_PRODUCT:
            break
        size *= 2
    deadline = time.perf_counter() + CALIBRATION_SECONDS
    while time.perf_counter() < deadline:
        best = min(best, _timed_product(factor))
    return Peak(2 * size**3 / best, f"{str(dtype).removeprefix('torch.')} products of {size} x {size}, measured")


def _timed_product(factor: torch.Tensor) -> float:
    began = time.perf_counter()
    product = factor @ factor
    if product.device.type == "cuda":
        torch.cuda.synchronize(product.device)
    return time.perf_counter() - began


def _seconds_between(before: float | torch.cuda.Event, after: float | torch.cuda.Event) -> float:
    if isinstance(before, torch.cuda.Event):
        assert isinstance(after, torch.cuda.Event)
        after.synchronize()
        return before.elapsed_time(after) / 1000
    assert isinstance(after, float)
    return after - before
