"""The state of a training: what its checkpoints hold, and what works on it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

from pipeline.progress import Progress, ProgressBar
from pipeline.tasks import Split, Task
from pipeline.telemetry.layer_statistics import LayerStatistics
from pipeline.training.batches import GlobalBatches
from pipeline.training.checkpointing.checkpoints import CheckpointWriter
from pipeline.training.checkpointing.training_state_dict import ResumableState
from pipeline.training.guarding.guards import Guard
from pipeline.training.guarding.signal_handlers import Interrupts
from pipeline.training.guarding.watchdog import Watchdog
from pipeline.training.optimization.clipping import Clipping
from pipeline.training.recording.metrics_log import MetricsLog
from pipeline.training.recording.throughput import Meter
from pipeline.training.routing import Routing
from pipeline.training.train_config import TrainConfig


@dataclass(kw_only=True)
class TrainState(ResumableState):
    """One training. `build` makes it; the functions of the loop work on it.

    `network` is `model` as it runs: wrapped where processes average its gradients, and under autocast.
    `accelerated_optimizer` is `optimizer` as it steps: with the scale of the loss taken out of the gradients.
    """

    config: TrainConfig
    max_steps: int
    work: Path
    progress: Progress

    accelerator: Accelerator
    network: nn.Module
    accelerated_optimizer: AcceleratedOptimizer
    batches: GlobalBatches
    task: Task
    train_split: Split
    validation_split: Split
    routing: Routing
    layer_statistics: LayerStatistics
    clip: Clipping
    checkpoints: CheckpointWriter
    log: MetricsLog
    meter: Meter
    interrupts: Interrupts
    watchdog: Watchdog

    guard: Guard = field(init=False)
    bar: ProgressBar = field(init=False)
    headline: str = ""
    """The last record in a few words, for the bar."""

    is_checkpoint_wanted: int = 0
    """Whether process 0's clock asks for a checkpoint (1 or 0), in all processes the same."""

    stop_signal: int = 0
    """The signal that stops the training, in all processes the same; 0 while there was none."""

    began: float = field(init=False)
    """`time.perf_counter()` at the start of this attempt, minus the seconds of earlier attempts."""

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.accelerator.device

    def count_seconds(self) -> None:
        """Bring the counter of seconds up to now."""
        self.counters.seconds = time.perf_counter() - self.began
