"""What to change about a training that does not fit on its devices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipeline.training.train_config import TrainConfig

if TYPE_CHECKING:
    from pipeline.planning.estimate import Estimator

MOST_DEVICES = 2**16

Changes = dict[str, Any]
"""Fields of `train:` and their new values."""


def advise(estimator: Estimator, config: TrainConfig, num_devices: int) -> list[dict[str, Any]]:
    """The least changes after which a training fits: `{"scheme", "num_devices", "settings"}`, where `settings` are
    those of `train:` to change. One on these devices if there is one. Otherwise those on more devices, each with more
    changes and on fewer devices than the one before, and LoRA where that fits. Empty where nothing helps."""
    for settings in _savings(estimator, config):
        found = _on_these_devices(estimator, config, settings, num_devices)
        if found is not None:
            return [found]
    advice: list[dict[str, Any]] = []
    fewest = MOST_DEVICES + 1
    batch = config.micro_batch_size(num_devices)
    for settings in _savings(estimator, config):
        for micro_batch in dict.fromkeys((batch, 1)):
            more = _on_more_devices(estimator, config, settings, micro_batch, num_devices)
            if more is not None and more["num_devices"] < fewest:
                fewest = more["num_devices"]
                advice.append(more)
    if "lora" in (schemes := estimator.schemes(config)) and estimator.fits(schemes["lora"]):
        advice.append({"scheme": "lora", "num_devices": 1, "settings": {}})
    return advice


def _savings(estimator: Estimator, config: TrainConfig) -> Iterator[Changes]:
    """Settings that save activations and change no result, from the cheapest on."""
    checkpointing: list[Changes] = [{}]
    if estimator.can_checkpoint and not config.gradient_checkpointing:
        checkpointing.append({"gradient_checkpointing": True})
    attention: list[Changes] = [{}]
    if estimator.keeps_scores and config.attn_implementation is None:
        attention.append({"attn_implementation": "flex_attention"})
    return ({**first, **second} for first in attention for second in checkpointing)


def _on_these_devices(
    estimator: Estimator, config: TrainConfig, settings: Changes, num_devices: int
) -> dict[str, Any] | None:
    """With these settings and the largest micro-batch with which a scheme fits, if there is one."""
    batch, share = config.micro_batch_size(num_devices), config.global_batch_size // num_devices
    sizes = [size for size in range(1, batch + 1) if share % size == 0]

    def schemes(size: int) -> dict[str, int]:
        own = settings if size == batch else {**settings, "per_device_train_batch_size": size}
        return {
            scheme: sum(parts.values())
            for scheme, parts in estimator.schemes(config.model_copy(update=own)).items()
            if scheme != "lora"
        }

    smallest, largest = schemes(1), schemes(batch)
    for scheme, least in smallest.items():
        # Memory grows evenly with the batch, so that not every size need be simulated.
        each = (largest[scheme] - least) / max(1, batch - 1)
        likely = [size for size in sizes if least + each * (size - 1) <= estimator.usable_bytes]
        for size in dict.fromkeys((*likely[-1:], *likely[:1])):
            if schemes(size)[scheme] <= estimator.usable_bytes:
                smaller = {} if size == batch else {"per_device_train_batch_size": size}
                return {
                    "scheme": scheme,
                    "num_devices": 1 if scheme == "one_device" else num_devices,
                    "settings": {**settings, **smaller},
                }
    return None


def _on_more_devices(
    estimator: Estimator, config: TrainConfig, settings: Changes, micro_batch: int, num_devices: int
) -> dict[str, Any] | None:
    """The smallest power of two of devices on which FSDP2 fits with these settings and such micro-batches."""
    number = 2
    while number <= MOST_DEVICES:
        at_once = number * micro_batch
        changes = {**settings, "per_device_train_batch_size": micro_batch}
        changes["global_batch_size"] = -(-config.global_batch_size // at_once) * at_once
        if number > num_devices and estimator.fits(estimator.under_fsdp(config.model_copy(update=changes), number)):
            is_news = {name: value for name, value in changes.items() if getattr(config, name) != value}
            return {"scheme": "fsdp2", "num_devices": number, "settings": is_news}
        number *= 2
    return None
