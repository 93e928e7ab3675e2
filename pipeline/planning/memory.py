"""Memory that one optimizer step takes, by simulating it on tensors without data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PreTrainedModel
from transformers.integrations import moe
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from pipeline.config.train import TrainConfig
from pipeline.modeling.heads import task_of
from pipeline.modeling.inputs import trusted_inputs
from pipeline.modeling.parameters import blocks
from pipeline.planning.allocations import KINDS, Allocations
from pipeline.telemetry.layers import LayerNorms
from pipeline.training.averaging import WeightAverage
from pipeline.training.objective import objective
from pipeline.training.optimizers import build_optimizer
from pipeline.training.routing import Routing

FUSED_ATTENTION = "fused_without_data"
"""The name under which transformers finds attention that keeps no scores, inside `without_data`."""

Parts = dict[str, int]
"""Bytes by kind, one of allocations.KINDS."""

BF16_BYTES, FP32_BYTES = 2, 4


@dataclass(frozen=True)
class StepShape:
    """What a device computes at once, and how many such batches it adds up before it updates the weights."""

    device_batch_size: int
    block_size: int
    accumulation: int


@contextlib.contextmanager
def without_data() -> Iterator[None]:
    """Tensors made inside have shapes and types but no data; experts' products do not ask which token goes where."""
    ALL_ATTENTION_FUNCTIONS.register(FUSED_ATTENTION, _fused_attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(FUSED_ATTENTION, sdpa_mask)
    with FakeTensorMode(), trusted_inputs(), mock.patch.object(moe, "_grouped_mm", _GroupedProduct.apply):
        yield


def _fused_attention(module: Any, query: Any, key: Any, value: Any, mask: Any, **settings: Any) -> Any:
    """In place of attention that keeps no scores, whatever it does to them."""
    settings.pop("softcap", None)
    return sdpa_attention_forward(module, query, key, value, mask, **settings)


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
    """Composition of memory at the two moments of a step at which it can be highest: when the forward pass has left
    all its activations and the loss is computed, and when the weights are updated. In between one goes as the other
    comes."""

    forward: Parts
    update: Parts

    @property
    def peak(self) -> Parts:
        """The one of the two that is larger."""
        return max(self.forward, self.update, key=lambda parts: sum(parts.values()))

    def plus(self, other: StepMemory, times: float) -> StepMemory:
        """Add a multiple of another step's memory."""
        pairs = ((self.forward, other.forward), (self.update, other.update))
        return StepMemory(*({kind: own[kind] + round(times * more[kind]) for kind in KINDS} for own, more in pairs))


def simulate_step(model: PreTrainedModel, section: TrainConfig, shape: StepShape) -> StepMemory:
    """The memory that an optimizer step of `training.loop` needs, in bytes.

    `model` is made inside `without_data`. What kernels take for themselves is not seen; on the CPU it is a few percent
    at most. The snapshot from which a checkpoint is written lies in the host's memory and is left out.
    """
    optimizer = build_optimizer(section, model, torch.device("cpu"))
    routing, average = Routing(section, model), WeightAverage(model, section.ema_decay)
    norms = LayerNorms(model)
    allocations = Allocations(model.config.get_text_config().vocab_size)
    ids = torch.zeros(shape.device_batch_size, shape.block_size, dtype=torch.long)
    task = task_of(model.config)
    labels = ids if task == "causal_lm" else ids[:, 0] if task == "classification" else ids[:, 0].float()
    model.train()
    if section.attn_implementation is not None:
        is_eager = section.attn_implementation == "eager"
        model.set_attn_implementation("eager" if is_eager else FUSED_ATTENTION)
    if section.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    _make_optimizer_state(optimizer)
    with allocations, allocations.watching_gradients(model):
        allocations.hold("weights", [*model.parameters(), *model.buffers()])
        allocations.hold("optimizer", [*_state_tensors(optimizer), *average.tensors.values()])
        for _ in range(min(2, shape.accumulation)):
            with torch.autocast("cpu", torch.bfloat16, enabled=section.mixed_precision == "bf16"):
                output = model(input_ids=ids, use_cache=False, **routing.inputs)
            part = {"labels": labels, "attention_mask": torch.ones_like(ids)}
            total, sums = routing.add(objective(output, labels, section), output, part)
            (total / labels.numel()).backward()
            del output, total, sums
        allocations.reset_peak()
        with allocations.making("telemetry"):
            before = norms.before()
        optimizer.step()
        norms.after(before)
    forward, update = allocations.most_activations, allocations.peak
    return StepMemory({kind: forward[kind] for kind in KINDS}, {kind: update[kind] for kind in KINDS})


def _make_optimizer_state(optimizer: torch.optim.Optimizer) -> None:
    """What the first step makes, so that one step is enough to simulate."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    optimizer.zero_grad()


def _state_tensors(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]


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


def under_ddp(one_device: StepMemory, sizes: Sizes) -> Parts:
    """A device's memory under DistributedDataParallel: gradients live in its buckets, and so all the time."""
    gradients = {"gradients": FP32_BYTES * sizes.trainable}
    return StepMemory(one_device.forward | gradients, one_device.update | gradients).peak


def under_fsdp(whole: StepMemory, optimizer: int, sizes: Sizes, num_devices: int, is_bf16: bool) -> Parts:
    """A device's memory under FSDP2: every block sharded over all devices, the next one gathered ahead, and the
    gradient of one in the float32 in which it is summed over devices, beside that of the next.

    `whole` is a step of the unsharded model with weights in the precision of computation already, so that no casts of
    them count among the activations; `optimizer` is the whole optimizer state. An upper bound: at the end of the
    forward pass there are no gradients to reduce, and at the end of the backward pass few activations.
    """
    width = BF16_BYTES if is_bf16 else FP32_BYTES
    shard = FP32_BYTES * sizes.total // num_devices
    trained, trained_share = FP32_BYTES * sizes.trainable // num_devices, sizes.trainable / sizes.total
    whole_gradients = width * (sizes.outside_blocks + sizes.largest_block) + FP32_BYTES * sizes.largest_block
    return {
        "weights": shard + width * (sizes.outside_blocks + 2 * sizes.largest_block),
        "gradients": trained + round(trained_share * whole_gradients),
        "optimizer": optimizer // num_devices,
        "activations": whole.forward["activations"],
        "logits": whole.forward["logits"],
        "telemetry": trained,
    }
