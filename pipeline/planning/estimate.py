"""What a configuration will cost: parameters, FLOPs, memory a device, and time. Builds nothing that has data."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from transformers import PreTrainedModel

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.gpus import known_peak
from pipeline.modeling.adapters import virtual_tokens
from pipeline.modeling.bf16 import multiplies_bf16
from pipeline.modeling.flops import forward_flops_per_token, training_flops_per_token
from pipeline.modeling.inputs import check_context, context_length
from pipeline.modeling.model_config import AdapterConfig
from pipeline.modeling.parameters import active_parameters, parameter_table
from pipeline.planning.advice import advise
from pipeline.planning.devices import Device
from pipeline.planning.fake_attention import attention_flops, set_attention
from pipeline.planning.memory import (
    PRECISIONS,
    BytesByKind,
    Sizes,
    StepMemory,
    StepShape,
    simulate_step,
    under_fsdp,
    without_data,
)
from pipeline.planning.skeleton import build_skeleton, depth_of, skeleton_config
from pipeline.tasks import task_named
from pipeline.training.recording.peak_flops import peak_of
from pipeline.training.train_config import TrainConfig

LORA_RANK = 16
LORA = AdapterConfig.model_validate({"type": "lora", "r": LORA_RANK, "target_modules": "all-linear"})
"""What the scheme `lora` means where the configuration has no adapter of its own."""

ALIKE = (4, 8)
"""Numbers of equal blocks that are simulated of a deeper model. Each further block adds the same."""

SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Hardware:
    """The devices that a training is to run on, and the share of their peak that it is expected to reach; None where
    nobody can say: all of it bounds the time then."""

    device: Device
    num_devices: int
    utilization: float | None


class Estimator:
    """Estimates for one configuration on some hardware; simulations are done once for each setting."""

    def __init__(self, config: Config, hardware: Hardware) -> None:
        """Raises ConfigError for a configuration that training would refuse, as far as that is seen without data."""
        config = _in_precision_of(hardware.device, config)
        self._config, self._hardware = config, hardware
        self._architecture, self._head = skeleton_config(config)
        self._simulated: dict[Any, StepMemory] = {}
        self._peak = _peak_of(hardware.device, config.train)
        with without_data():
            self._model = self._skeleton(None)
        context = context_length(self._model)
        check_context(config.pack.block_size + virtual_tokens(self._model), context)
        self._sizes, self._depth = Sizes.of(self._model), depth_of(self._model)

    def result(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        config, hardware = self._config.train, self._hardware
        memory = {
            scheme: {
                "num_devices": 1 if scheme in ("one_device", "lora") else hardware.num_devices,
                "parts_bytes": parts,
                "total_bytes": sum(parts.values()),
                "fits": self.fits(parts),
            }
            for scheme, parts in self.schemes(config).items()
        }
        fits = any(figures["fits"] for scheme, figures in memory.items() if scheme != "lora")
        return {
            "architecture": self._architecture.model_type,
            "vocab_size": self._architecture.get_text_config().vocab_size,
            # How many characters a text has is not known before it is read.
            "vocab_size_is_bound": self._config.tokenizer.is_bound,
            "block_size": self._config.pack.block_size,
            "mixed_precision": config.mixed_precision,
            "device_batch_size": config.micro_batch_size(hardware.num_devices),
            "hardware": {
                "device": hardware.device.name,
                "num_devices": hardware.num_devices,
                "memory_bytes": hardware.device.memory_bytes,
                "usable_memory_bytes": hardware.device.usable_bytes,
                "peak_flops_per_second": self._peak,
                "peak_is_measured": hardware.device.is_cpu,
                "utilization": hardware.utilization,
            },
            "parameters": self._parameters(),
            "flops_per_token": self._flops(),
            "memory": memory,
            "time": self._time(),
            "advice": [] if fits else advise(self, config, hardware.num_devices),
        }

    def schemes(self, config: TrainConfig) -> dict[str, BytesByKind]:
        """Memory of a device by scheme: alone, with each of the others under DDP and FSDP2, and alone with LoRA."""
        number = self._hardware.num_devices
        batch = config.micro_batch_size(number)
        step = self._step(config, batch)
        schemes = {"one_device": (step.accumulating() if config.global_batch_size > batch else step).peak}
        if number > 1:
            schemes["ddp"] = step.under_ddp().peak
            if self._config.model.quantization is None:
                schemes["fsdp2"] = self.under_fsdp(config, number)
        if self._config.model.adapter is None:
            # peft knows no place for it in some architectures.
            with contextlib.suppress(ConfigError):
                schemes["lora"] = self._step(config, batch, adapter=LORA).peak
        return schemes

    def under_fsdp(self, config: TrainConfig, num_devices: int) -> BytesByKind:
        """Memory of a device when so many share the model under FSDP2."""
        batch, dtype = config.micro_batch_size(num_devices), PRECISIONS[config.mixed_precision]
        optimizer = self._step(config, batch).peak["optimizer"]
        return under_fsdp(self._step(config, batch, dtype=dtype), optimizer, self._sizes, num_devices, dtype)

    def fits(self, parts: BytesByKind) -> bool:
        """Whether a device has that much memory for tensors."""
        return sum(parts.values()) <= self.usable_bytes

    @property
    def usable_bytes(self) -> int:
        """Memory of a device for tensors."""
        return self._hardware.device.usable_bytes

    @property
    def can_checkpoint(self) -> bool:
        """Whether the architecture can recompute its activations."""
        return bool(self._model.supports_gradient_checkpointing)

    @property
    def keeps_scores(self) -> bool:
        """Whether the architecture keeps the scores of its attention by default and need not."""
        is_eager = self._architecture.get_text_config()._attn_implementation == "eager"
        return is_eager and self._model._supports_flex_attn

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
        return {
            "forward": forward_flops_per_token(self._model, length),
            "forward_counted": self._counted_flops(length),
            "forward_and_backward": training_flops_per_token(self._model, length),
        }

    def _counted_flops(self, length: int) -> float:
        """Those of a forward pass by torch's own counter, for each token of one sequence."""

        def count(depth: int | None) -> float:
            with without_data(), torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_UNKNOWN) as counter:
                model = self._skeleton(depth)
                set_attention(model, self._config.train.attn_implementation)
                model(input_ids=torch.zeros(1, length, dtype=torch.long), use_cache=False)
            return counter.get_total_flops() / length

        kinds = {*(getattr(self._architecture.get_text_config(), "layer_types", None) or ())}
        if self._depth.alike <= ALIKE[1] or len(kinds) > 1:
            return count(None)
        shallow, deeper = (count(self._depth.first + alike) for alike in ALIKE)
        return shallow + (deeper - shallow) * self._times

    @property
    def _times(self) -> float:
        """How many times the difference of the two depths is missing in the shallower one."""
        return (self._depth.alike - ALIKE[0]) / (ALIKE[1] - ALIKE[0])

    def _step(
        self,
        config: TrainConfig,
        batch: int,
        *,
        dtype: torch.dtype | None = None,
        adapter: AdapterConfig | None = None,
    ) -> StepMemory:
        key = (batch, config.gradient_checkpointing, config.attn_implementation, dtype, adapter is None)
        if key not in self._simulated:
            shape = StepShape(batch, config.per_device_eval_batch_size or batch, self._config.pack.block_size)
            self._simulated[key] = self._simulate(config, shape, dtype, adapter)
        return self._simulated[key]

    def _simulate(
        self, config: TrainConfig, shape: StepShape, dtype: torch.dtype | None, adapter: AdapterConfig | None
    ) -> StepMemory:
        def at(depth: int | None) -> StepMemory:
            with without_data():
                model = self._skeleton(depth, self._config.model.quantization, dtype, adapter)
                return simulate_step(model, task_named(self._config.model.task), config, shape)

        if self._depth.alike <= ALIKE[1]:
            return at(None)
        shallow, deeper = (at(self._depth.first + alike) for alike in ALIKE)
        return shallow.deepened(deeper, self._times)

    def _skeleton(
        self,
        depth: int | None,
        quantization: str | None = None,
        dtype: torch.dtype | None = None,
        adapter: AdapterConfig | None = None,
    ) -> PreTrainedModel:
        own = self._config.model.adapter
        # Frozen weights stay in the precision in which they were saved, unless all is computed in float32.
        is_mixed = self._config.train.mixed_precision != "no"
        saved = self._architecture.dtype if own is not None and is_mixed else None
        return build_skeleton(
            self._config,
            self._architecture,
            self._head,
            adapter=own or adapter,
            quantization=quantization,
            dtype=dtype or saved or torch.float32,
            depth=depth,
        )

    def _time(self) -> dict[str, float | None]:
        """Tokens a second and days, at the expected share of the devices' peak, or at all of it where that is not
        known. A training that may stop early takes at most so long."""
        config, hardware = self._config.train, self._hardware
        speed = self._peak * hardware.num_devices * (hardware.utilization or 1.0)
        tokens_per_second = speed / training_flops_per_token(self._model, self._config.pack.block_size)
        tokens = config.max_tokens
        if config.max_steps is not None:
            tokens = config.max_steps * config.global_batch_size * self._config.pack.block_size
        days = tokens / tokens_per_second / SECONDS_PER_DAY if tokens else None
        may_end_early = config.early_stopping_patience is not None
        return {"tokens_per_second": tokens_per_second, "tokens": tokens, "days": days, "is_bound": may_end_early}


def _in_precision_of(device: Device, config: Config) -> Config:
    """The configuration with `mixed_precision: auto` as it comes out on a device, which need not be this machine's."""
    if config.train.mixed_precision != "auto":
        return config
    has_bf16 = multiplies_bf16(torch.device("cpu")) if device.is_cpu else known_peak(device.name, "bf16") is not None
    precision = "bf16" if has_bf16 else "no"
    return config.model_copy(update={"train": config.train.model_copy(update={"mixed_precision": precision})})


def _peak_of(device: Device, config: TrainConfig) -> float:
    """Peak of a device in the precision of a training, operations a second. That of this machine's processor is
    measured, which takes a second or two once."""
    if device.is_cpu:
        return peak_of(torch.device("cpu"), config.mixed_precision).flops_per_second
    kind = {"no": "fp32"}.get(config.mixed_precision, config.mixed_precision)
    peak = known_peak(device.name, kind)
    if peak is None:
        other = " or train.mixed_precision=fp16" if kind == "bf16" else ""
        raise ConfigError(f"--device: {device.name} does not compute in {kind}; take another device{other}")
    return peak


_UNKNOWN = {
    torch.ops.descent.attention: attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda *shapes, **_: sdpa_flop_count(*shapes[:3]),
}
"""Operations that torch's counter would take for free."""
