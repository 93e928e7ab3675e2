"""Settings that an architecture knows."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from transformers import PreTrainedConfig

from pipeline.console.terminal_text import did_you_mean
from pipeline.errors import ConfigError
from pipeline.modeling.heads import Head
from pipeline.modeling.inputs import replaced
from pipeline.modeling.library_messages import without_warnings
from pipeline.modeling.model_config import FROM_TOKENIZER, SET_ELSEWHERE
from pipeline.pretrained.folder_checks import ABOUT_LAYERS, SAME_SETTING

MAX_LAYERS = 100_000


def check_keys(values: Mapping[str, Any], config: PreTrainedConfig, head: Head) -> None:
    """Raises ConfigError for a key of `model.config` that the architecture does not have, with the nearest that it has,
    and for blocks without end."""
    known = _known_keys(config)
    if values.keys() - known:
        known |= _read_by_code(type(config), head)
    for key in values:
        if key not in known:
            same = [name for names in SAME_SETTING if key in names for name in names if name in known]
            hint = f"; did you mean {same[0]}?" if same else did_you_mean(key, known)
            raise ConfigError(f"model.config.{key}: {config.model_type} has no such setting{hint}")
        if ABOUT_LAYERS.match(key) and isinstance(values[key], int) and values[key] > MAX_LAYERS:
            raise ConfigError(
                f"model.config.{key}: {values[key]:,} blocks are built one by one; give at most {MAX_LAYERS:,}"
            )
    if values.get("output_router_logits"):
        raise ConfigError(
            "model.config.output_router_logits: remove it; training asks for router logits by itself and weighs the "
            "router's losses by train.router_aux_loss_coef and train.router_z_loss_coef"
        )


def _known_keys(config: PreTrainedConfig) -> set[str]:
    names = set(inspect.signature(type(config).__init__).parameters) | set(config.to_dict()) | set(config.attribute_map)
    names -= {"self", "kwargs", *FROM_TOKENIZER, *SET_ELSEWHERE}
    return {name for name in names if not name.startswith("_")}


def _read_by_code(kind: type[PreTrainedConfig], head: Head) -> set[str]:
    """Settings that only an architecture's code reads, such as head_dim of qwen3_moe: seen by building the model of the
    default configuration, without weights."""
    model_class = head.auto_class._model_mapping.get(kind, None)
    if model_class is None or model_class.config_class is not kind:
        return set()
    read: set[str] = set()
    plainly = kind.__getattribute__

    def watching(self: PreTrainedConfig, name: str) -> Any:
        if sys._getframe(1).f_globals.get("__name__") == model_class.__module__:
            read.add(name)
        return plainly(self, name)

    with without_warnings(), replaced(kind, "__getattribute__", watching), torch.device("meta"), suppress(Exception):
        model_class(kind())  # where that cannot be built, as far as it got
    return {name for name in read if not name.startswith("_") and not hasattr(kind, name)}
