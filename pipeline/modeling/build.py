"""Build a causal language model from a configuration and a tokenizer; save and load it as a Hugging Face folder."""

from __future__ import annotations

import difflib
import inspect
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from pipeline.config.model import FROM_TOKENIZER, SET_ELSEWHERE, ModelConfig
from pipeline.errors import ConfigError
from pipeline.modeling.weights import storage_errors

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
)
"""The files of a Hugging Face folder that belong to its tokenizer."""


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a local Hugging Face folder; never asks the network."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer


def load_model(folder: Path, dtype: torch.dtype | Literal["auto"] = torch.float32) -> PreTrainedModel:
    """The causal language model of a local Hugging Face folder; `auto` keeps the precision in which it was saved."""
    with _quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=dtype)
    assert isinstance(model, PreTrainedModel)
    return model


def check_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises ConfigError when the saved folder's tokenizer is not read back as it was: beside a few architectures
    (qwen2) transformers replaces the rules of any tokenizer by its own, and the model would be given other tokens."""
    again = load_tokenizer(folder)
    if again.backend_tokenizer.to_str() != tokenizer.backend_tokenizer.to_str():
        model_type = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
        raise ConfigError(
            f"model.architecture: transformers puts {model_type}'s own tokenizer rules in place of the trained ones, "
            "so the exported model would see other tokens; choose another architecture, such as llama or qwen3"
        )


def save_model(model: PreTrainedModel, tokenizer_folder: Path, folder: Path) -> None:
    """Write an ordinary Hugging Face folder: configuration, safetensors weights and a copy of the tokenizer's files."""
    with _quiet(), storage_errors(folder):
        model.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (tokenizer_folder / name).is_file():
            shutil.copyfile(tokenizer_folder / name, folder / name)
    for weights in folder.glob("*.safetensors"):
        # safetensors writes files that only their owner may read.
        weights.chmod((folder / "config.json").stat().st_mode)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bars, which say nothing of ours."""
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def build_config(section: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """The architecture's configuration with the section's values and the tokenizer's vocabulary.

    Raises ConfigError for an unknown architecture, a key that it does not have, or a value that it refuses.
    """
    try:
        defaults = AutoConfig.for_model(section.architecture)
    except Exception as error:
        # Every architecture has checks of its own and raises what it likes.
        raise ConfigError(f"model.architecture: {section.architecture} cannot be had: {_one_line(error)}") from None
    known = _known_keys(defaults)
    for key in section.config:
        if key not in known:
            matches = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {matches[0]}?" if matches else f"known: {', '.join(sorted(known))}"
            raise ConfigError(f"model.config.{key}: {section.architecture} has no such setting; {hint}")
    if section.config.get("output_router_logits"):
        raise ConfigError("model.config.output_router_logits: router losses are not trained on; remove it")
    from_tokenizer = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    try:
        config = AutoConfig.for_model(section.architecture, **section.config, **from_tokenizer)
        text = config.get_text_config()
    except Exception as error:
        raise ConfigError(f"model.config: {section.architecture} refuses these values: {_one_line(error)}") from None
    if any(getattr(text, name, None) != value for name, value in from_tokenizer.items()):
        raise ConfigError(
            f"model.architecture: {section.architecture} is made up of several models and does not take the "
            f"tokenizer's vocabulary; choose a text model, such as {section.architecture}_text or llama"
        )
    return config


def build_model(section: ModelConfig, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """A model with float32 weights, initialized as its architecture does, the same for the same seed.

    The global random state is left as it was. Raises ConfigError where the values do not make a working causal
    language model: two short passes check that it computes, and that no position sees a later one.
    """
    config = build_config(section, tokenizer)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        sees_later_tokens = _sees_later_tokens(model)
    except Exception as error:
        raise ConfigError(f"model.config: {section.architecture} cannot be built so: {_one_line(error)}") from None
    if sees_later_tokens:
        raise ConfigError(
            f"model: {section.architecture} lets a position see later tokens, so it cannot learn to predict them; "
            "choose a decoder, or set model.config.is_decoder: true where the architecture has it"
        )
    return model


@torch.no_grad()
def _sees_later_tokens(model: PreTrainedModel) -> bool:
    """Whether changing the last of four tokens changes the logits of those before it."""
    training = model.training
    model.eval()
    ids = torch.tensor([[1, 2, 3, 2], [1, 2, 3, 1]], device=model.device) % model.config.get_text_config().vocab_size
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    model.train(training)
    return not torch.allclose(logits[0], logits[1], rtol=1e-3, atol=1e-4 * float(logits.abs().max()))


def _known_keys(config: PreTrainedConfig) -> set[str]:
    names = set(inspect.signature(type(config).__init__).parameters) | set(config.to_dict()) | set(config.attribute_map)
    # Some settings are only known to the code that reads them, such as head_dim of qwen3_moe.
    model_class = AutoModelForCausalLM._model_mapping[type(config)]
    source = inspect.getsource(sys.modules[model_class.__module__])
    names |= set(re.findall(r'getattr\((?:self\.)?config, "(\w+)"', source))
    names -= {"self", "kwargs", *FROM_TOKENIZER, *SET_ELSEWHERE}
    return {name for name in names if not name.startswith("_")}


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"


def describe_config(config: PreTrainedConfig) -> dict[str, Any]:
    """Context length and vocabulary size under one name for all architectures; None where it has no limit."""
    text = config.get_text_config()
    return {"context": getattr(text, "max_position_embeddings", None), "vocab_size": text.vocab_size}
