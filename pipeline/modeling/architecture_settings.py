"""What of transformers' is made fit for ours: which settings an architecture knows, its errors, its progress bars."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedConfig
from transformers.utils import logging

from pipeline.errors import ConfigError
from pipeline.modeling.heads import Head
from pipeline.modeling.model_config import FROM_TOKENIZER, SET_ELSEWHERE
from pipeline.pretrained.inspection import ABOUT_LAYERS, SAME_SETTING

MAX_LAYERS = 100_000


def check_keys(values: Mapping[str, Any], config: PreTrainedConfig, head: Head) -> None:
    """Raises ConfigError for a key of `model.config` that the architecture does not have, with the nearest that it has,
    and for blocks without end."""
    known = _known_keys(config, head)
    for key in values:
        if key not in known:
            same = [name for names in SAME_SETTING if key in names for name in names if name in known]
            matches = same or difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {matches[0]}?" if matches else f"known: {', '.join(sorted(known))}"
            raise ConfigError(f"model.config.{key}: {config.model_type} has no such setting; {hint}")
        if ABOUT_LAYERS.match(key) and isinstance(values[key], int) and values[key] > MAX_LAYERS:
            raise ConfigError(
                f"model.config.{key}: {values[key]:,} blocks are built one by one; give at most {MAX_LAYERS:,}"
            )
    if values.get("output_router_logits"):
        raise ConfigError(
            "model.config.output_router_logits: remove it; training asks for router logits by itself and weighs the "
            "router's losses by train.router_aux_loss_coef and train.router_z_loss_coef"
        )


def _known_keys(config: PreTrainedConfig, head: Head) -> set[str]:
    names = set(inspect.signature(type(config).__init__).parameters) | set(config.to_dict()) | set(config.attribute_map)
    model_class = head.auto_class._model_mapping.get(type(config), None)
    if model_class is not None:
        # Some settings are only known to the code that reads them, such as head_dim of qwen3_moe.
        source = inspect.getsource(sys.modules[model_class.__module__])
        names |= set(re.findall(r'getattr\((?:self\.)?config, "(\w+)"', source))
    names -= {"self", "kwargs", *FROM_TOKENIZER, *SET_ELSEWHERE}
    return {name for name in names if not name.startswith("_")}


def one_line(error: BaseException) -> str:
    """An error of a library as the end of one of ours."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    named = re.match(r"\w+(?:Error|Exception): ", last)  # what the error was made from, and is of more use
    return last if named else f"{type(error).__name__}: {last}"


@contextmanager
def without_bars() -> Iterator[None]:
    """Without transformers' own progress bars, which say nothing of ours."""
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()
