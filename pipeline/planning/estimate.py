"""What a configuration will cost: parameters, FLOPs, memory a device, and time. Builds nothing that has data."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from transformers import PreTrainedModel

from pipeline.config import Config
from pipeline.config.train import TrainConfig
from pipeline.errors import ConfigError
from pipeline.modeling.adapters import peft_config
from pipeline.modeling.flops import forward_flops_per_token, training_flops_per_token
from pipeline.modeling.parameters import active_parameters, parameter_table
from pipeline.planning.devices import Device
from pipeline.planning.memory import (
    Parts,
    Sizes,
    StepMemory,
    StepShape,
    simulate_step,
    under_ddp,
    under_fsdp,
    without_data,
)
from pipeline.planning.skeleton import build_skeleton, skeleton_config, uniform_depth
from pipeline.training.throughput import known_peak

LORA_RANK = 16
DEPTHS = (4, 8)
MOST_DEVICES = 2**16
SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Hardware:
    """The devices that a training is to run on, and the share of their peak that it is expected to reach."""

    device: Device
    num_devices: int
    utilization: float


class Estimator:
    """Estimates for one configuration on some hardware; simulations are done once for each setting."""

    def __init__(self, config: Config, hardware: Hardware) -> None:
        self._config, self._hardware = config, hardware
        self._architecture, self._head = skeleton_config(config)
        self._simulated: dict[Any, StepMemory] = {}
        with without_data():
            self._model = self._skeleton(None, torch.float32)
        self._sizes = Sizes.of(self._model)
        self._depth = uniform_depth(self._model) or 0
        self._times = (self._depth - DEPTHS[0]) / (DEPTHS[1] - DEPTHS[0])

    def result(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        memory = {name: self._summed(parts) for name, parts in self._schemes(self._config.train).items()}
        return {
            "architecture": self._architecture.model_type,
            "device_batch_size": self._config.train.device_batch_size(self._hardware.num_devices),
            "block_size": self._config.pack.block_size,
            "hardware": {
                "device": self._hardware.device.name,
                "memory_bytes": self._hardware.device.memory_bytes,
                "num_devices": self._hardware.num_devices,
                "utilization": self._hardware.utilization,
            },
            "parameters": self._parameters(),
            "flops_per_token": self._flops(),
            "memory": memory,
            "time": self._time(),
            "advice": self._advice(memory),
        }

    def _parameters(self) -> dict[str, Any]:
        table = parameter_table(self._model)
        parts: dict[str, int] = {}
        for part in table["parts"]:
            name = re.sub(r"^.*\.\d+\.", "", part["name"])
            parts[name] = parts.get(name, 0) + part["parameters"]
        return {
            "total": table["total"],
            "active": active_parameters(self._model),
            "trainable": table["trainable"],
            "parts": parts,
        }

    def _flops(self) -> dict[str, float]:
        length = self._config.pack.block_size
        formula, counted = forward_flops_per_token(self._model, length), self._counted_flops(length)
        return {
            "forward": formula,
            "forward_counted": counted,
            "forward_and_backward": training_flops_per_token(self._model, length),
        }

    def _counted_flops(self, length: int) -> float:
        """Those of a forward pass by torch's own counter, for each token of one sequence."""

        def count(depth: int | None) -> float:
            with without_data(), torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_UNKNOWN) as counter:
                model = self._skeleton(depth, torch.float32)
                model(input_ids=torch.zeros(1, length, dtype=torch.long), use_cache=False)
            return counter.get_total_flops() / length

        if self._depth <= DEPTHS[1]:
            return count(None)
        shallow, deeper = (count(depth) for depth in DEPTHS)
        return shallow + (deeper - shallow) * self._times

    def _step(self, section: TrainConfig, *, dtype: torch.dtype = torch.float32, lora: bool = False) -> StepMemory:
        number = self._hardware.num_devices
        batch = section.device_batch_size(number)
        accumulation = section.global_batch_size // (batch * number)
        key = (batch, min(2, accumulation), section.gradient_checkpointing, dtype, lora)
        if key not in self._simulated:
            shape = StepShape(batch, self._config.pack.block_size, accumulation)
            self._simulated[key] = self._simulate(section, shape, dtype, lora)
        return self._simulated[key]

    def _simulate(self, section: TrainConfig, shape: StepShape, dtype: torch.dtype, lora: bool) -> StepMemory:
        def at(depth: int | None) -> StepMemory:
            with without_data():
                return simulate_step(self._skeleton(depth, dtype, lora), section, shape)

        if self._depth <= DEPTHS[1]:
            return at(None)
        # Each further block of the same shape adds the same.
        shallow, deeper = (at(depth) for depth in DEPTHS)
        block = deeper.plus(shallow, -1)
        return shallow.plus(block, self._times)

    def _skeleton(self, depth: int | None, dtype: torch.dtype, lora: bool = False) -> PreTrainedModel:
        section = self._config.model.adapter
        adapter = None
        if section is not None:
            adapter = peft_config(section)
        elif lora:
            adapter = LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules="all-linear")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft's, about what it adapts of its own accord
            return build_skeleton(self._architecture, self._head, dtype, depth, adapter)

    def _schemes(self, section: TrainConfig) -> dict[str, Parts]:
        """Memory of a device by scheme."""
        one, number = self._step(section), self._hardware.num_devices
        schemes = {"one device": one.peak}
        if number > 1:
            schemes[f"DDP on {number}"] = under_ddp(one, self._sizes)
            schemes[f"FSDP2 on {number}"] = self._fsdp(section, number)
        if self._config.model.adapter is None:
            schemes[f"LoRA of rank {LORA_RANK}"] = self._step(section, lora=True).peak
        return schemes

    def _fsdp(self, section: TrainConfig, num_devices: int) -> Parts:
        is_bf16 = section.mixed_precision == "bf16"
        whole = self._step(section, dtype=torch.bfloat16 if is_bf16 else torch.float32)
        return under_fsdp(whole, self._step(section).peak["optimizer"], self._sizes, num_devices, is_bf16)

    def _summed(self, parts: Parts) -> dict[str, Any]:
        total = sum(parts.values())
        return {"parts": parts, "total": total, "fits": total <= self._hardware.device.usable_bytes}

    def _advice(self, memory: dict[str, dict[str, Any]]) -> list[str]:
        """The least changes after which every parameter can be trained on such devices; [] where it can already."""
        usable = self._hardware.device.usable_bytes
        if any(scheme["fits"] for name, scheme in memory.items() if not name.startswith("LoRA")):
            return []
        section = self._config.train
        smallest = section.model_copy(update={"per_device_train_batch_size": 1})
        changes = {"train.per_device_train_batch_size=1": smallest}
        if self._model.supports_gradient_checkpointing:
            frugal = section.model_copy(update={"gradient_checkpointing": True})
            both = smallest.model_copy(update={"gradient_checkpointing": True})
            changes |= {
                "train.gradient_checkpointing=true": frugal,
                "train.gradient_checkpointing=true train.per_device_train_batch_size=1": both,
            }
        for settings, changed in changes.items():
            for scheme, parts in self._schemes(changed).items():
                if sum(parts.values()) <= usable and not scheme.startswith("LoRA"):
                    return [f"{scheme} fits with {settings}"]
        advice: list[str] = []
        fewest = MOST_DEVICES + 1
        for settings, changed in {"": section, **changes}.items():
            number = self._enough_devices(changed)
            if number is not None and number < fewest:
                fewest = number
                advice.append(f"FSDP2 fits on {number} devices{' with ' if settings else ''}{settings}")
        if any(scheme["fits"] for scheme in memory.values()):
            advice.append("LoRA fits: model.adapter, on a pretrained model")
        return advice or ["one block with its activations is larger than such a device; take one with more memory"]

    def _enough_devices(self, section: TrainConfig) -> int | None:
        """The smallest power of two of devices on which FSDP2 fits."""
        usable = self._hardware.device.usable_bytes
        numbers = (2**power for power in range(1, int(math.log2(MOST_DEVICES)) + 1))
        return next((n for n in numbers if sum(self._fsdp(section, n).values()) <= usable), None)

    def _time(self) -> dict[str, float | None]:
        """Target tokens a second and days, at the expected share of the devices' peak."""
        section, hardware = self._config.train, self._hardware
        kind = {"no": "tf32"}.get(section.mixed_precision, section.mixed_precision)
        peak = known_peak(hardware.device.name, kind)
        if peak is None:
            raise ConfigError(f"--device: {hardware.device.name} does not compute in {kind}; take another device")
        speed = peak * hardware.num_devices * hardware.utilization
        tokens_per_second = speed / training_flops_per_token(self._model, self._config.pack.block_size)
        tokens = section.max_tokens
        if section.max_steps is not None:
            tokens = section.max_steps * section.global_batch_size * self._config.pack.block_size
        days = tokens / tokens_per_second / SECONDS_PER_DAY if tokens else None
        return {"tokens_per_second": tokens_per_second, "tokens": tokens, "days": days}


def _attention_flops(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **options: Any) -> int:
    return sdpa_flop_count(query, key, value)


_UNKNOWN = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
"""An operation that torch's counter would take for free."""
