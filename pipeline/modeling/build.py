"""Build a model from its section and a tokenizer; save and load it as a Hugging Face folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pipeline.errors import ConfigError
from pipeline.known_names import is_known
from pipeline.modeling.adapters import load_adapter
from pipeline.modeling.architecture_settings import check_keys
from pipeline.modeling.export_compatibility import copy_tokenizer, make_portable
from pipeline.modeling.heads import CAUSAL_LM, Head, head_in
from pipeline.modeling.inputs import evaluating
from pipeline.modeling.library_messages import config_errors, without_bars
from pipeline.modeling.loading_code import ADAPTER, BASE
from pipeline.modeling.materialize import empty_model, fill, is_recipe, materialize, open_empty
from pipeline.modeling.model_config import ModelConfig
from pipeline.modeling.pretrained_model import load_pretrained, vocabulary_size
from pipeline.modeling.weights import safetensors_errors
from pipeline.pretrained.folder_checks import check_model_folder
from pipeline.pretrained.origin import CODE_FILES, has_code


def load_hf_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a local Hugging Face folder; never asks the network."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=has_code(folder)
    )
    return tokenizer


def load_model(folder: Path, dtype: torch.dtype | Literal["auto"] = torch.float32) -> PreTrainedModel:
    """The model of a local Hugging Face folder with the head that it has there; `auto` keeps the precision in which it
    was saved.

    An adapter inside the folder is put on the base beside it. A model that was saved as a recipe is initialized, whole.
    """
    if (folder / ADAPTER).is_dir():
        return load_adapter(load_model(folder / BASE, dtype), folder / ADAPTER)
    if is_recipe(folder):
        return materialize(folder, open_empty(folder)).to(torch.float32 if dtype == "auto" else dtype)
    return read_model(folder, dtype)[0]


def read_model(folder: Path, dtype: torch.dtype | Literal["auto"]) -> tuple[PreTrainedModel, set[str]]:
    """The model whose weights a local folder holds, and the names of those that it lacks, which are drawn at random.

    Raises ConfigError where something in the folder names a file that is none of its weights.
    """
    check_model_folder({path.name: path for path in folder.iterdir()}, str(folder))
    with without_bars():
        model, found = head_in(folder).auto_class.from_pretrained(
            folder,
            local_files_only=True,
            dtype=dtype,
            use_safetensors=True,  # any other format can run code
            trust_remote_code=has_code(folder),
            output_loading_info=True,
        )
    assert isinstance(model, PreTrainedModel)
    return model, set(found["missing_keys"])


def check_saved_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises ConfigError when the saved folder's tokenizer is not read back as it was: beside a few architectures
    (qwen2) transformers replaces the rules of any tokenizer by its own, and the model would be given other tokens."""
    again = load_hf_tokenizer(folder)
    if again.backend_tokenizer.to_str() != tokenizer.backend_tokenizer.to_str():
        model_type = json.loads((folder / "config.json").read_bytes())["model_type"]
        raise ConfigError(
            f"model.architecture: transformers puts {model_type}'s own tokenizer rules in place of the trained ones, "
            "so the exported model would see other tokens; choose another architecture, such as llama or qwen3"
        )


def save_model(
    model: PreTrainedModel, tokenizer_folder: Path, folder: Path, *, has_weights: bool | None = None
) -> None:
    """Write an ordinary Hugging Face folder: configuration, safetensors weights and a copy of the tokenizer's files, as
    other tools take them (`make_portable`).

    A model on the meta device has no weights to write, unless they come from elsewhere.
    """
    has_weights = model.device.type != "meta" if has_weights is None else has_weights
    with without_bars(), safetensors_errors(folder):
        if not has_weights:
            model.config.architectures = [type(model).__name__]
            model.config.save_pretrained(folder)
            model.generation_config.save_pretrained(folder)
        else:
            model.save_pretrained(folder)
    copy_tokenizer(tokenizer_folder, folder, CODE_FILES)
    if has_weights:
        make_portable(folder)
    for weights in folder.glob("*.safetensors"):
        # safetensors writes files that only their owner may read.
        weights.chmod((folder / "config.json").stat().st_mode)


def configure(config: ModelConfig, head: Head = CAUSAL_LM, **values: Any) -> PreTrainedConfig:
    """The architecture's configuration with the section's values and further ones.

    Raises ConfigError for an unknown architecture, a key that it does not have, or a value that it refuses.
    """
    architecture = config.model_type
    assert architecture is not None, "a pretrained model brings its configuration"
    with config_errors(f"model.architecture: {architecture} cannot be had"):
        defaults = AutoConfig.for_model(architecture)
    check_keys(config.values, defaults, head)
    with config_errors(f"model.config: {architecture} refuses these values"):
        hf_config = AutoConfig.for_model(architecture, **config.values, **values, **head.config_values)
        hf_config.get_text_config()
    for name in ("num_hidden_layers", "hidden_size"):
        value = getattr(hf_config.get_text_config(), name, 1)
        if isinstance(value, int) and value < 1:
            raise ConfigError(f"model.config: {architecture} has {name} {value}; give at least 1")
    return hf_config


def build_config(config: ModelConfig, tokenizer: PreTrainedTokenizerBase, head: Head = CAUSAL_LM) -> PreTrainedConfig:
    """The architecture's configuration with the section's values and the tokenizer's vocabulary.

    Raises ConfigError as `configure`, and for an architecture that does not take the vocabulary.
    """
    from_tokenizer = {
        "vocab_size": vocabulary_size(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    architecture = config.model_type
    if tokenizer.bos_token_id is None and not _takes_null(architecture, "bos_token_id"):
        # Such as cwm. Every document follows the end of another, so that is how one begins.
        from_tokenizer["bos_token_id"] = tokenizer.eos_token_id
    hf_config = configure(config, head, **from_tokenizer)
    if any(getattr(hf_config.get_text_config(), name, None) != value for name, value in from_tokenizer.items()):
        text_model = f"{architecture}_text"
        is_there = is_known("causal_lm" if head is CAUSAL_LM else "sequence_classification", text_model)
        raise ConfigError(
            f"model.architecture: {architecture} is made up of several models and does not take the tokenizer's "
            f"vocabulary; choose a text model, such as {f'{text_model} or ' if is_there else ''}llama"
        )
    return hf_config


def _takes_null(architecture: str | None, name: str) -> bool:
    try:
        setattr(AutoConfig.for_model(architecture), name, None)
    except StrictDataclassError:
        return False
    except Exception:
        return True  # `configure` says what is wrong
    return True


def build_model(
    config: ModelConfig, tokenizer: PreTrainedTokenizerBase, seed: int, head: Head = CAUSAL_LM
) -> PreTrainedModel:
    """A pretrained model, or one with float32 weights as `model.initialization` says; the same for the same seed.

    Above `model.materialize_limit` parameters it stays on the meta device.

    The global random state is left as it was. Raises ConfigError where the values do not make a working model: a short
    pass checks that it computes, and of a causal language model that no position sees a later one.
    """
    cannot = f"model.config: {config.model_type or config.pretrained} cannot be built so"
    if config.pretrained is not None:
        model = load_pretrained(config, tokenizer, seed, head)
    else:
        hf_config = build_config(config, tokenizer, head)
        with config_errors(cannot):
            model = empty_model(hf_config, head)
            if model.num_parameters() <= config.materialize_limit:
                fill(model, config.initialization, seed, head)
    if model.device.type != "meta":
        with config_errors(cannot):
            _check_forward_pass(model, head)
    return model


def _check_forward_pass(model: PreTrainedModel, head: Head) -> None:
    if head is not CAUSAL_LM:
        _score(model)
    elif _sees_later_tokens(model):
        raise ConfigError(
            f"model: {model.config.model_type} lets a position see later tokens, so it cannot learn to predict them; "
            "choose a decoder, or set model.config.is_decoder: true where the architecture has it"
        )


def _sees_later_tokens(model: PreTrainedModel) -> bool:
    """Whether changing the last of four tokens changes the logits of those before it."""
    text = model.config.get_text_config()
    # Grok-1 hides padding, and what sees nothing else weighs all positions alike.
    usable = [token for token in range(min(text.vocab_size, 5)) if token != text.pad_token_id]
    first, second, last = usable[0], usable[1 % len(usable)], usable[-1]
    ids = torch.tensor([[first, second, last, second], [first, second, last, first]], device=model.device)
    with evaluating(model):
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return not torch.allclose(logits[0], logits[1], rtol=1e-3, atol=1e-4 * float(logits.abs().max()))


def _score(model: PreTrainedModel) -> None:
    """Two short sequences as training gives them: of two lengths, each ending in the end-of-document token."""
    text = model.config.get_text_config()
    pad, end = text.pad_token_id, text.eos_token_id
    other = next(token for token in range(text.vocab_size) if token not in (pad, end))
    ids = torch.tensor([[other, other, end], [other, end, pad]], device=model.device)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]], device=model.device)
    with evaluating(model):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    if logits.shape != (2, model.config.num_labels):
        raise ValueError(f"it scores {tuple(logits.shape)} for 2 sequences and {model.config.num_labels} labels")
