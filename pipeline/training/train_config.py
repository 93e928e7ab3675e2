"""The `train:` section: optimization, precision, and what is recorded on the way."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline.errors import ConfigError
from pipeline.evaluation.evaluate_config import AnyBenchmark, SamplesConfig
from pipeline.machine import bf16_support
from pipeline.section import WORKSPACE, Alternatives, Choice, Runtime
from pipeline.training.optimization.optimization_config import OptimizationConfig

Tracker = Literal["aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "trackio", "wandb"]
LENGTHS = ("max_steps", "num_train_epochs", "max_tokens")
"""Fields of which exactly one says how long a training is."""

PATIENCE = "early_stopping_patience"
"""With it, a training may be shorter."""

AttentionImplementation = Literal["eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3"]


IN_OTHER_TRAINERS = {
    "batch_size": "per_device_train_batch_size, or global_batch_size for all devices and accumulated batches",
    "bf16": "mixed_precision: bf16",
    "fp16": "mixed_precision: fp16",
    "gradient_accumulation_steps": "global_batch_size: what per_device_train_batch_size leaves of it is accumulated",
    "gradient_clipping": "max_grad_norm",
    "grad_clip": "max_grad_norm",
    "epochs": "num_train_epochs",
    "layer_telemetry_steps": "telemetry_steps",
    "lr": "learning_rate",
    "lr_scheduler": "lr_scheduler_type",
    "max_seq_length": "pack.block_size",
    "micro_batch_size": "per_device_train_batch_size",
    "num_epochs": "num_train_epochs",
    "optimizer": "optim",
    "output_dir": "run.workspace and run.name",
    "report_to": "log_with",
    "resume_from_checkpoint": "nothing: the same command again goes on where it stopped",
    "scheduler": "lr_scheduler_type",
    "sequence_len": "pack.block_size",
}
"""What settings are called in other trainers, and what they are here."""


class TrainConfig(OptimizationConfig):
    """Optimization. Names are those of transformers' TrainingArguments where it has one."""

    alternatives: ClassVar[Alternatives] = (*OptimizationConfig.alternatives, LENGTHS)
    called_elsewhere: ClassVar = IN_OTHER_TRAINERS

    max_steps: int | None = Field(default=None, ge=1)
    """Number of optimizer steps. Give this, `num_train_epochs` or `max_tokens`: one on the command line stands in for
    the file's. When the length alone is changed, training goes on from the newest checkpoint up to which the learning
    rates of both lengths are the same: any with `constant` and `inverse_sqrt`, one from before the decay with
    `warmup_stable_decay`. Else it begins anew, and `plan` says why. `gc` removes the checkpoints of complete
    trainings."""

    num_train_epochs: float | None = Field(default=None, gt=0)
    """Passes over the training windows, rounded up to whole steps."""

    max_tokens: int | None = Field(default=None, ge=1)
    """Target tokens to train on, rounded up to whole steps of the split's average number of them."""

    init_from: Annotated[str | None, Runtime()] = None
    """Start from the weights of another run instead of the model stage's: the name of a run in the same workspace, or
    the path of a Hugging Face folder (with a `/`; `./name` for one beside). Its weights, not its name, count for
    whether the training is done already."""

    global_batch_size: int = Field(default=32, ge=1, le=2**24)
    """Sequences in one optimizer step, over all devices and accumulated batches."""

    per_device_train_batch_size: Annotated[int | None, Runtime()] = Field(default=None, ge=1)
    """Sequences that a device computes at once; the rest of its share of the global batch is accumulated. Times the
    number of processes it must divide `global_batch_size`. Null computes the whole share at once."""

    per_device_eval_batch_size: Annotated[int | None, Runtime()] = Field(default=None, ge=1)
    """Sequences that a device computes at once in validation. Null is the same as in training."""

    regression_loss: Literal["mse", "huber"] = "mse"
    """What a regression makes small: the squared error, or Huber's loss, in which errors above `huber_delta` count
    linearly, so that outliers weigh less."""

    huber_delta: float = Field(default=1.0, gt=0)
    """Error, in the units of the labels, above which Huber's loss is linear."""

    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """`bf16` computes matrix products in bfloat16 under autocast; weights and optimizer stay in float32. `no` computes
    in float32, also with frozen weights under an adapter that are saved in less. `auto` is
    `bf16` where the device multiplies it natively (NVIDIA's GPUs from Ampere on, processors with AVX512-BF16, AMX-BF16
    or Arm's bf16), else `no`; what it comes to counts for whether the training is done already, as if it stood here.
    `fp16`, on CUDA devices only, computes products in float16 and scales the loss so that small gradients survive; a
    step in which they overflow is skipped and the scale lowered."""

    router_aux_loss_coef: float | None = Field(default=None, ge=0)
    """Weight of the load-balancing loss of a mixture, computed within each sequence (DeepSeek-V3). The loss is 1 when
    all experts are used equally. Null takes the model configuration's own."""

    router_z_loss_coef: float | None = Field(default=None, ge=0)
    """Weight of the mean squared logarithm of the router's normalizer (ST-MoE), which keeps its logits small. Null
    takes the model configuration's own, or 0."""

    gradient_checkpointing: Annotated[bool, Runtime()] = False
    """Recompute activations in the backward pass: less memory, about a third more computation."""

    attn_implementation: Annotated[AttentionImplementation | None, Runtime()] = None
    """How attention is computed. Null takes transformers' choice for the architecture. Only `eager` keeps all its
    scores, length x length for each head; `flex_attention` and the `flash_attention` kinds need a GPU, and the latter
    their package and bf16 or fp16."""

    torch_compile: bool = False
    """Compile each layer with torch.compile: faster steps after a slow first one."""

    deterministic: Annotated[bool, Runtime()] = True
    """Use deterministic algorithms only, so that the same run gives the same bits."""

    export: Literal["last", "best", "ema"] = "last"
    """Which weights become the artifact: those after the last step, those of the lowest validation loss, or the moving
    average of `ema_decay`. With `early_stopping_patience` it is `best` unless something else is given here."""

    logging_steps: Annotated[int, Runtime()] = Field(default=10, ge=1)
    """Steps between two records of loss, learning rate, throughput and gradient norms."""

    telemetry_steps: Annotated[int | None, Runtime()] = Field(default=None, ge=1)
    """Steps between two measurements of every matrix's gradient, weights and update; a multiple of `logging_steps`. The
    first three records have them in any case. Null is 5 times `logging_steps`. TensorBoard gets histograms at the first
    record, at the second, fourth, fifth and eighth of these steps, and at every fifth from then on."""

    eval_steps: Annotated[int | None, Runtime()] = Field(default=None, ge=1)
    """Steps between two validations. Null validates after the last step only; that one always happens."""

    eval_batches: Annotated[int | None, Runtime()] = Field(default=None, ge=1)
    """At most this many times `global_batch_size` sequences in one validation. Null takes the whole validation
    split."""

    benchmark_steps: Annotated[int | None, Runtime()] = Field(default=None, ge=1)
    """Steps between two measurements of `benchmarks` by the weights of then; a multiple of `logging_steps`. The records
    get them as `benchmark/<task>/<metric>`. Null measures none while training."""

    benchmarks: Annotated[list[AnyBenchmark], Runtime()] = Field(default_factory=list)
    """What is measured every `benchmark_steps`. Left out, those of `evaluate.benchmarks`; a smaller `limit` may suit
    better here."""

    samples: Annotated[SamplesConfig | None, Runtime()] = None
    """What the model of a language model writes after each validation, as text in TensorBoard: as `evaluate.samples`,
    but that the openings are those of validation documents. `{}` takes the defaults. Null writes nothing."""

    early_stopping_patience: int | None = Field(default=None, ge=1)
    """End the training when so many validations in a row, of those every `eval_steps`, did not lower the lowest
    validation loss (`eval/loss`) by more than `early_stopping_threshold`, as transformers' EarlyStoppingCallback does.
    The learning rate follows the schedule of the whole length, which a training that stops early does not come to the
    end of. Null never ends it early."""

    early_stopping_threshold: float = Field(default=0.0, ge=0)
    """By more than this, in nats (of a regression in the units of its loss), a validation loss must be below the lowest
    before it to count as better."""

    save_steps: Annotated[int, Runtime()] = Field(default=200, ge=1)
    """Steps between two checkpoints."""

    save_minutes: Annotated[float | None, Runtime()] = Field(default=None, gt=0)
    """Minutes after which a checkpoint is written in any case. Null goes by `save_steps` alone."""

    save_total_limit: Annotated[int, Runtime()] = Field(default=2, ge=1)
    """Checkpoints kept; older ones are removed, but for the best when `export` is `best`, and that from before the
    decay of `warmup_stable_decay`, which is saved in any case for a longer training to go on from."""

    on_nonfinite: Annotated[Literal["halt", "skip"], Runtime()] = "halt"
    """What to do with a step whose loss or gradient is not finite. `halt` ends the training, with an autopsy of the
    step to replay; `skip` leaves weights and optimizer as they were and goes on with the next batch, at the price of
    one wait for the device in each step. A run without such steps is the same under both, so that one that was halted
    can go on with `skip`."""

    on_loss_spike: Literal["ignore", "warn", "skip", "rollback"] = "warn"
    """What to do with a step whose loss or gradient norm is far above those before. `skip` leaves its batch out, at the
    price of one wait for the device in each step; `rollback` goes back to the weights of the last checkpoint and on
    with new batches, for a spike of the loss; that of a gradient it tells, as `warn` does."""

    loss_spike_threshold: float = Field(default=6.0, gt=0)
    """Standard deviations above the median of recent steps from which a loss or a gradient norm is a spike. They are
    told by the median absolute deviation of logarithms, or by their ninth decile where it lies farther."""

    loss_spike_window: int = Field(default=128, ge=4)
    """Recent steps that a step is compared with, spikes left out; nothing is a spike before half as many were seen. A
    quarter as many spikes in a row are a new level, from which on it begins anew."""

    max_consecutive_skips: Annotated[int, Runtime()] = Field(default=10, ge=1)
    """The training ends when so many steps in a row were skipped, or so many rollbacks went to one checkpoint."""

    log_with: Annotated[list[Tracker], Runtime()] = Field(default=[])
    """Trackers of Accelerate that get the records as well, beside metrics.jsonl and TensorBoard, under the run's name
    and with TensorBoard's tags. One that raises is warned of and left out."""

    project: Annotated[str, Runtime()] = Field(default="descent", min_length=1)
    """Name of the project, or experiment, in those trackers."""

    hang_timeout_seconds: Annotated[float | None, Runtime()] = Field(default=1800, gt=0)
    """A process that begins no forward pass for so long ends, with the stacks of its threads in a file. Null never
    ends it."""

    def is_runtime(self, name: str) -> bool:
        """Which validations there are matters where they choose the weights that are exported."""
        validations_count = self.export == "best" or self.early_stopping_patience is not None
        return super().is_runtime(name) and not (validations_count and name in ("eval_steps", "eval_batches"))

    def choices(self) -> dict[str, Choice]:
        """`mixed_precision`, where it is `auto`."""
        if self.mixed_precision != "auto":
            return {}
        support = bf16_support(os.environ)
        return {"mixed_precision": Choice("bf16" if support.is_native else "no", support.why)}

    @property
    def telemetry_interval(self) -> int:
        """`telemetry_steps`, or what null means."""
        return self.telemetry_steps or 5 * self.logging_steps

    @property
    def huber_delta_used(self) -> float | None:
        """Where the loss of a regression becomes linear; None where it is the squared error throughout."""
        return self.huber_delta if self.regression_loss == "huber" else None

    def micro_batch_size(self, dp_world_size: int) -> int:
        """Sequences that each of the processes computes at once. Raises ConfigError when `global_batch_size` cannot be
        shared out so."""
        at_once = self.per_device_train_batch_size or 1
        if self.global_batch_size % (dp_world_size * at_once):
            each = f" times per_device_train_batch_size {at_once}" if at_once > 1 else ""
            raise ConfigError(
                f"train.global_batch_size {self.global_batch_size} is not a multiple of the {dp_world_size} "
                f"processes{each}; change one of them"
            )
        return self.per_device_train_batch_size or self.global_batch_size // dp_world_size

    @classmethod
    def complete(cls, values: dict[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
        """A name in `init_from` stands for the model of that run in this workspace. Benchmarks are those of the
        evaluation."""
        evaluate = whole.get("evaluate")
        if values.get("benchmark_steps") is not None and "benchmarks" not in values and isinstance(evaluate, dict):
            values = {**values, "benchmarks": evaluate.get("benchmarks", [])}
        name, run = values.get("init_from"), whole.get("run")
        if not isinstance(name, str) or "/" in name or not isinstance(run, dict):
            return values
        if name == run.get("name"):
            raise ValueError(f"train.init_from: {name} is this run itself; name another")
        return {**values, "init_from": str(Path(str(run.get("workspace", WORKSPACE)), "runs", name, "model"))}

    @model_validator(mode="before")
    @classmethod
    def _a_training_that_stops_early_exports_its_best(cls, values: Any) -> Any:
        """Its last weights are those of the validations that made it stop."""
        if isinstance(values, dict) and values.get("early_stopping_patience") is not None:
            return {"export": "best", **values}
        return values

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if all(getattr(self, name) is None for name in LENGTHS):
            raise ValueError("give exactly one of max_steps, num_train_epochs and max_tokens")
        if self.export == "ema" and self.ema_decay is None:
            raise ValueError("export: ema needs ema_decay")
        if self.early_stopping_patience is not None and self.eval_steps is None:
            raise ValueError("early_stopping_patience counts validations; give eval_steps, the steps between two")
        if self.early_stopping_threshold and self.early_stopping_patience is None:
            raise ValueError("early_stopping_threshold needs early_stopping_patience")
        if self.max_steps is not None and self.warmup_steps > self.max_steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} is more than max_steps {self.max_steps}")
        micro_batch = self.per_device_train_batch_size
        if micro_batch is not None and self.global_batch_size % micro_batch:
            raise ValueError(
                f"global_batch_size {self.global_batch_size} is not a multiple of "
                f"per_device_train_batch_size {micro_batch}; change one of them"
            )
        if self.telemetry_interval % self.logging_steps:
            raise ValueError(
                f"telemetry_steps {self.telemetry_interval} is not a multiple of "
                f"logging_steps {self.logging_steps}; change one of them"
            )
        if self.benchmark_steps is not None and self.benchmark_steps % self.logging_steps:
            raise ValueError(
                f"benchmark_steps {self.benchmark_steps} is not a multiple of "
                f"logging_steps {self.logging_steps}; change one of them"
            )
        if self.benchmark_steps is not None and not self.benchmarks:
            raise ValueError("benchmark_steps needs benchmarks; name some in evaluate.benchmarks, or here")
        return self
