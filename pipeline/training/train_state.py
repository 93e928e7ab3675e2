"""The state of a training: what it works with, what it has reached, and what its checkpoints hold."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn
from transformers import PreTrainedModel

from pipeline.distributed.collectives import Collectives
from pipeline.progress import Progress, ProgressBar
from pipeline.tasks import Split, Task
from pipeline.telemetry.input_rows import InputRows
from pipeline.telemetry.matrix_statistics import MatrixStatistics
from pipeline.telemetry.model_probe import ModelProbe
from pipeline.tokens.mixing import Epoch
from pipeline.training.batches import GlobalBatches
from pipeline.training.checkpointing.checkpoints import CheckpointWriter
from pipeline.training.checkpointing.counters import Counters
from pipeline.training.due import Due
from pipeline.training.guarding.guards import Guard
from pipeline.training.guarding.signal_handlers import Interrupts
from pipeline.training.guarding.watchdog import Watchdog
from pipeline.training.optimization.clipping import Clipping
from pipeline.training.optimization.weight_average import WeightAverage
from pipeline.training.recording.metrics_log import MetricsLog
from pipeline.training.recording.running_sums import RunningSums
from pipeline.training.recording.throughput import Meter
from pipeline.training.routing import Routing
from pipeline.training.train_config import TrainConfig


@dataclass(kw_only=True)
class TrainState:
    """One training. `build` makes it; the functions of the loop work on it. Fields are in the order of a step."""

    config: TrainConfig
    task: Task

    max_steps: int
    """Optimizer steps of the training."""

    seed: int
    """Of the order of the data and of each process's random numbers."""

    work: Path
    """Folder of checkpoints and records. The processes share it."""

    artifact: Path | None
    """The artifact of the model stage, which this training began with; None where there is none."""

    progress: Progress
    """Where people read messages."""

    accelerator: Accelerator

    processes: Collectives
    """The processes that train together."""

    numerics: dict[str, Any]
    """What shapes the last bits of the weights, for the record."""

    counters: Counters = field(default_factory=Counters)
    """How far the training is."""

    train_split: Split
    validation_split: Split

    epoch: Epoch
    """What is read of the training split before it begins anew."""

    tokenizer_file: Path | None = None
    """Tells the text of documents."""

    batches: GlobalBatches
    """The global batch of every step."""

    model: nn.Module
    """Wrapped by DDP or FSDP, and under autocast."""

    unwrapped_model: PreTrainedModel
    """The plain model. Its parameters are those of `model`."""

    routing: Routing
    """The router's losses of a mixture of experts."""

    loss_scaler: torch.amp.GradScaler | None
    """Of fp16 only."""

    clip_gradients: Clipping
    """Call it to clip the gradients in place."""

    guard: Guard = field(init=False)
    """Refuses bad steps."""

    optimizer: AcceleratedOptimizer
    """Steps, and first takes the loss scale out of the gradients."""

    unwrapped_optimizer: torch.optim.Optimizer
    """The plain optimizer, with its state."""

    matrix_statistics: MatrixStatistics
    """Norms of each matrix's gradient, weights and update."""

    input_rows: InputRows
    """Which rows of the token embedding were ever updated."""

    probe: ModelProbe
    """Looks at activations, attention and experts."""

    ema: WeightAverage
    """The moving average of the weights."""

    meter: Meter
    """Times the phases of the steps."""

    due: Due
    """Which steps are logged, validated and saved."""

    running_sums: RunningSums
    """Losses and gradient norms since the last record."""

    log: MetricsLog
    """metrics.jsonl, TensorBoard and other trackers."""

    bar: ProgressBar = field(init=False)
    """Progress for people."""

    headline: str = ""
    """The last record in a few words, for the bar."""

    has_failed_to_write: bool = False
    """Whether it was said that a sample could not be written."""

    checkpoints: CheckpointWriter
    """Writes checkpoints in a thread."""

    is_checkpoint_wanted: int = 0
    """Whether process 0's clock asks for a checkpoint (1 or 0), in all processes the same."""

    interrupts: Interrupts
    """Catches signals to this process."""

    stop_signal: int = 0
    """The signal that stops the training, in all processes the same; 0 while there was none."""

    watchdog: Watchdog
    """Ends the process if it hangs."""

    began: float = field(init=False)
    """`time.perf_counter()` at the start of this attempt, minus the seconds of earlier attempts."""

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.accelerator.device

    def count_seconds(self) -> None:
        """Bring the counter of seconds up to now."""
        self.counters.seconds = time.perf_counter() - self.began
