"""How fast a training is: tokens a second, the share of the hardware's peak, where the time goes, and peak memory.

All tags begin with `throughput/`, `time/` or `memory/`: what is measured, and so differs from run to run.
"""

from __future__ import annotations

import resource
import sys
import time

import torch
from transformers import PreTrainedModel

from pipeline.modeling.flops import training_flops_per_token
from pipeline.training.recording.peak_flops import Peak

PHASES = ("data", "forward_backward", "optimizer", "rest")


class Meter:
    """Measures the steps of a training: `start` one, `mark` the end of each of its phases, `stop` it.

    On a GPU marks are events on its stream, which wait for nothing; they are read when a record is due. The time of
    `data` is then that for which the GPU waited for data.
    """

    def __init__(self, model: PreTrainedModel, length: int, peak: Peak, device: torch.device, world_size: int) -> None:
        self.flops_per_token = training_flops_per_token(model, length)
        self.peak_kind = peak.kind
        self._peak = peak.flops_per_second * world_size
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
        all devices, Chowdhery et al. 2022, section 4.1), that peak, seconds a step by phase, and the highest memory use
        so far of this process: resident on the CPU, allocated by torch on a GPU.
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
            "throughput/peak_flops_per_second": self._peak,
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


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory that this process has used so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def _seconds_between(before: float | torch.cuda.Event, after: float | torch.cuda.Event) -> float:
    if isinstance(before, torch.cuda.Event):
        assert isinstance(after, torch.cuda.Event)
        after.synchronize()
        return before.elapsed_time(after) / 1000
    assert isinstance(after, float)
    return after - before
