"""The `train:` section: optimization, precision, and what is recorded on the way."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.base import Runtime, Section
from pipeline.errors import ConfigError


class TrainConfig(Section):
    """Optimization. Names are those of transformers' TrainingArguments where it has one."""

    max_steps: int | None = Field(default=None, ge=1)
    """Number of optimizer steps. Give either this or `num_train_epochs`."""

    num_train_epochs: float | None = Field(default=None, gt=0)
    """Passes over the training windows; rounded up to whole steps. Give either this or `max_steps`."""

    global_batch_size: int = Field(default=32, ge=1)
    """Sequences in one optimizer step, over all devices and accumulated batches."""

    per_device_train_batch_size: Annotated[int | None, Runtime()] = Field(default=None, ge=1)
    """Sequences that a device computes at once; the rest of its share of the global batch is accumulated. Times the
    number of processes it must divide `global_batch_size`. Null computes the whole share at once."""

    per_device_eval_batch_size: Annotated[int | None, Runtime()] = Field(default=None, ge=1)
    """Sequences that a device computes at once in validation. Null is the same as in training."""

    optim: Literal["adamw_torch_fused", "sgd"] = "adamw_torch_fused"
    """AdamW (Loshchilov & Hutter 2019), or stochastic gradient descent with momentum."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """Highest learning rate, reached at the end of the warm-up."""

    weight_decay: float = Field(default=0.1, ge=0)
    """Decay of weights, decoupled in AdamW. Norms, biases and embeddings are never decayed."""

    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of AdamW's mean of gradients."""

    adam_beta2: float = Field(default=0.95, ge=0, lt=1)
    """Decay of AdamW's mean of squared gradients."""

    adam_epsilon: float = Field(default=1e-8, gt=0)
    """Added to the denominator of AdamW's update."""

    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of `sgd`."""

    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """Gradients whose global norm is larger are scaled down to it. Null never scales."""

    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "cosine"
    """Shape of the learning rate after the warm-up."""

    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly to `learning_rate`."""

    min_lr_ratio: float = Field(default=0.0, ge=0, le=1)
    """The part of `learning_rate` at which linear and cosine schedules end."""

    mixed_precision: Literal["no", "bf16"] = "no"
    """`bf16` computes matrix products in bfloat16 under autocast; weights and optimizer stay in float32."""

    router_aux_loss_coef: float | None = Field(default=None, ge=0)
    """Weight of the loss that balances the experts of a mixture, taken within each sequence (DeepSeek-V3): 1 times it
    when all are used alike. Null takes the model configuration's own."""

    router_z_loss_coef: float | None = Field(default=None, ge=0)
    """Weight of the mean squared logarithm of the router's normalizer (ST-MoE), which keeps its logits small. Null
    takes the model configuration's own, or 0."""

    gradient_checkpointing: Annotated[bool, Runtime()] = False
    """Recompute activations in the backward pass: less memory, about a third more computation."""

    torch_compile: bool = False
    """Compile each layer with torch.compile: faster steps after a slow first one."""

    deterministic: Annotated[bool, Runtime()] = True
    """Use deterministic algorithms only, so that the same run gives the same bits."""

    export: Literal["last", "best"] = "last"
    """Which weights become the artifact: those after the last step, or those of the lowest validation loss."""

    logging_steps: Annotated[int, Runtime()] = Field(default=10, ge=1)
    """Steps between two records of loss, learning rate, throughput and gradient norms."""

    layer_telemetry_steps: Annotated[int | None, Runtime()] = Field(default=None, ge=1)
    """Steps between two records of every layer's gradient, weights and update; a multiple of `logging_steps`.
    Null records them whenever the loss is recorded."""

    eval_steps: Annotated[int | None, Runtime()] = Field(default=None, ge=1)
    """Steps between two validations. Null validates after the last step only; that one always happens."""

    eval_batches: Annotated[int | None, Runtime()] = Field(default=None, ge=1)
    """At most this many times `global_batch_size` sequences in one validation. Null takes the whole validation
    split."""

    save_steps: Annotated[int, Runtime()] = Field(default=200, ge=1)
    """Steps between two checkpoints."""

    save_minutes: Annotated[float | None, Runtime()] = Field(default=None, gt=0)
    """Minutes after which a checkpoint is written in any case. Null goes by `save_steps` alone."""

    save_total_limit: Annotated[int, Runtime()] = Field(default=2, ge=1)
    """Checkpoints kept; older ones are removed, but for the best when `export` is `best`."""

    def device_batch_size(self, num_processes: int) -> int:
        """Sequences that each of the processes computes at once. Raises ConfigError when `global_batch_size` cannot be
        shared out so."""
        at_once = self.per_device_train_batch_size or 1
        if self.global_batch_size % (num_processes * at_once):
            each = f" times per_device_train_batch_size {at_once}" if at_once > 1 else ""
            raise ConfigError(
                f"train.global_batch_size {self.global_batch_size} is not a multiple of the {num_processes} "
                f"processes{each}; change one of them"
            )
        return self.per_device_train_batch_size or self.global_batch_size // num_processes

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.max_steps is None) == (self.num_train_epochs is None):
            raise ValueError("give exactly one of max_steps and num_train_epochs")
        if self.max_steps is not None and self.warmup_steps > self.max_steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} is more than max_steps {self.max_steps}")
        device_batch = self.per_device_train_batch_size
        if device_batch is not None and self.global_batch_size % device_batch:
            raise ValueError(
                f"global_batch_size {self.global_batch_size} is not a multiple of "
                f"per_device_train_batch_size {device_batch}; change one of them"
            )
        if self.layer_telemetry_steps is not None and self.layer_telemetry_steps % self.logging_steps:
            raise ValueError(
                f"layer_telemetry_steps {self.layer_telemetry_steps} is not a multiple of "
                f"logging_steps {self.logging_steps}; change one of them"
            )
        return self
