"""Memory that one optimizer step takes, by simulating it on tensors without data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils.operations import convert_to_fp32
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from transformers import PreTrainedModel
from transformers.integrations import moe

from pipeline.modeling.experts import cast_experts
from pipeline.modeling.inputs import evaluating, replaced, trusted_inputs
from pipeline.modeling.library_messages import without_warnings
from pipeline.modeling.parameters import blocks
from pipeline.planning.allocations import KINDS, Allocations
from pipeline.planning.fake_attention import set_attention
from pipeline.tasks import Task
from pipeline.telemetry.matrix_statistics import MatrixStatistics
from pipeline.training.optimization.parameter_groups import optimizer_without_data
from pipeline.training.optimization.weight_average import WeightAverage
from pipeline.training.routing import Routing
from pipeline.training.train_config import TrainConfig

BytesByKind = dict[str, int]
"""Keys are allocations.KINDS."""

PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Of computation, by `train.mixed_precision`."""

FP32_BYTES = 4


@dataclass(frozen=True)
class StepShape:
    """Sequences that a device computes at once, in training and in validation, and their length in tokens."""

    micro_batch_size: int
    eval_batch_size: int
    block_size: int


@contextlib.contextmanager
def without_data() -> Iterator[None]:
    """Make tensors with shapes and types but no data. `item()`, which some optimizers call, gives a made-up value.
    transformers' warnings, which are for training, are off."""
    item = torch.Tensor.item

    def value(tensor: torch.Tensor) -> Any:
        if not isinstance(tensor, FakeTensor):
            return item(tensor)
        return 0.5 if tensor.is_floating_point() else 1

    with (
        without_warnings(),
        FakeTensorMode(),
        trusted_inputs(),
        replaced(torch.Tensor, "item", value),
        # Which token goes to which expert is not known.
        replaced(moe, "_grouped_mm", _GroupedProduct.apply),
    ):
        yield


class _GroupedProduct(torch.autograd.Function):
    """In place of the product of groups of tokens (S, K) with a matrix each of (E, K, N): as many operations, and
    tensors of the same sizes."""

    @staticmethod
    def forward(ctx: Any, tokens: torch.Tensor, weights: torch.Tensor, offs: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(tokens, weights)
        return tokens.to(weights.dtype) @ weights[0]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        tokens, weights = ctx.saved_tensors
        return (gradient @ weights[0].T).to(tokens.dtype), torch.zeros_like(weights), None


@dataclass(frozen=True)
class StepMemory:
    """Memory at the moments of a training at which it can be highest."""

    forward: BytesByKind
    """With all activations and the loss. From here on activations go as gradients come."""

    update: BytesByKind
    """While the weights are updated."""

    validation: BytesByKind

    @property
    def peak(self) -> BytesByKind:
        """The largest of them."""
        return max(self.forward, self.update, self.validation, key=lambda parts: sum(parts.values()))

    def deepened(self, deeper: StepMemory, times: float) -> StepMemory:
        """self + times * (deeper - self)."""
        pairs = zip(self._moments(), deeper._moments(), strict=True)
        return StepMemory(
            *({kind: own[kind] + round(times * (more[kind] - own[kind])) for kind in KINDS} for own, more in pairs)
        )

    def accumulating(self) -> StepMemory:
        """With the gradients of earlier micro-batches there while the next one is computed."""
        return StepMemory(self.forward | {"gradients": self.update["gradients"]}, self.update, self.validation)

    def under_ddp(self) -> StepMemory:
        """The same under DistributedDataParallel, in whose buckets gradients live all the time."""
        gradients = {"gradients": self.update["gradients"]}
        return StepMemory(*(moment | gradients for moment in self._moments()))

    def _moments(self) -> tuple[BytesByKind, BytesByKind, BytesByKind]:
        return self.forward, self.update, self.validation


def simulate_step(model: PreTrainedModel, task: Task, config: TrainConfig, shape: StepShape) -> StepMemory:
    """The memory that an optimizer step of `training.loop` needs where it is computed in one micro-batch, in bytes.

    `model` is made inside `without_data`. What kernels take for themselves is not seen; on the CPU it is a few percent
    at most. The snapshot from which a checkpoint is written lies in the host's memory and is left out.

    Raises ConfigError for what training refuses as well: attention that the architecture does not have, arguments that
    the optimizer does not.
    """
    set_attention(model, config.attn_implementation)
    if config.mixed_precision != "no":
        cast_experts(model)
    optimizer = optimizer_without_data(config, model)
    routing, average = Routing(config, task, model), WeightAverage(model, config.ema_decay)
    norms = MatrixStatistics(model, optimizer, lambda group: group["weight_decay"])
    allocations = Allocations(model.config.get_text_config().vocab_size)
    model.train()
    if config.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    # What the first step makes is made here, so that one step is enough to simulate.
    for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    made = [value for state in optimizer.state.values() for value in state.values()]
    with allocations, allocations.watching_gradients(model):
        allocations.hold("weights", [*model.parameters(), *model.buffers()])
        allocations.hold("optimizer", [value for value in made if isinstance(value, torch.Tensor)])
        allocations.hold("optimizer", average.tensors.values())
        batch = task.example_batch(torch.zeros(shape.micro_batch_size, shape.block_size, dtype=torch.long))
        output = _forward(model, batch["input_ids"], config, routing.inputs)
        total, _ = routing.add(task.loss_sums(output, batch, config), output, batch)
        del output
        (total / batch["labels"].numel()).backward()
        forward = allocations.most_activations
        allocations.reset_peak()
        with allocations.making("telemetry"):
            before = norms.before()
        optimizer.step()
        norms.after(before)
        del before
        update = allocations.peak
        optimizer.zero_grad()
        allocations.reset_peak()
        if shape.eval_batch_size > shape.micro_batch_size:
            batch = task.example_batch(torch.zeros(shape.eval_batch_size, shape.block_size, dtype=torch.long))
            with evaluating(model):
                task.validation_sums(_forward(model, batch["input_ids"], config, {}).logits, batch, config)
        validation = allocations.peak
    return StepMemory(*({kind: moment[kind] for kind in KINDS} for moment in (forward, update, validation)))


def _forward(model: PreTrainedModel, ids: torch.Tensor, config: TrainConfig, inputs: dict[str, Any]) -> Any:
    is_mixed = config.mixed_precision != "no"
    with torch.autocast("cpu", PRECISIONS[config.mixed_precision] if is_mixed else None, enabled=is_mixed):
        output = model(input_ids=ids, use_cache=False, **inputs)
    return convert_to_fp32(output) if is_mixed else output  # as Accelerate does


@dataclass(frozen=True)
class Sizes:
    """Parameters of a model as sharding sees them: all, those that are trained, those of the largest block, and those
    outside the blocks."""

    total: int
    trainable: int
    largest_block: int
    outside_blocks: int

    @classmethod
    def of(cls, model: nn.Module) -> Sizes:
        """Count a model's parameters; a tied one counts once."""
        per_block = [sum(p.numel() for p in block.parameters()) for block in blocks(model).values()]
        total = sum(p.numel() for p in model.parameters())
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        return cls(total, trainable, max(per_block, default=0), total - sum(per_block))


def under_fsdp(whole: StepMemory, optimizer: int, sizes: Sizes, num_devices: int, dtype: torch.dtype) -> BytesByKind:
    """A device's memory under FSDP2. Every block is sharded over all devices, and the next one is gathered ahead. The
    gradient of one block is summed over devices in float32 while that of the next is computed.

    `whole` is a step of the unsharded model with weights in the `dtype` of computation already: casts of them would
    count among the activations. `optimizer` is the whole optimizer state. This is an upper bound: at the end of the
    forward pass there are no gradients to reduce, and at the end of the backward pass few activations.
    """
    width = dtype.itemsize
    shard = FP32_BYTES * sizes.total // num_devices
    trained, trained_share = FP32_BYTES * sizes.trainable // num_devices, sizes.trainable / sizes.total
    whole_gradients = width * (sizes.outside_blocks + sizes.largest_block) + FP32_BYTES * sizes.largest_block
    most = max(whole.forward, whole.validation, key=lambda parts: parts["activations"] + parts["logits"])
    return {
        "weights": shard + width * (sizes.outside_blocks + 2 * sizes.largest_block),
        "gradients": trained + round(trained_share * whole_gradients),
        "optimizer": optimizer // num_devices,
        "activations": most["activations"],
        "logits": most["logits"],
        "telemetry": trained,
    }
