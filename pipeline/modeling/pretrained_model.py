"""Pretrained models: fetched, read from safetensors alone, fitted to the tokenizer's vocabulary."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.initialization import no_init_weights

from pipeline.errors import ConfigError
from pipeline.modeling.architecture_settings import check_keys
from pipeline.modeling.heads import CAUSAL_LM, Head
from pipeline.modeling.library_messages import config_errors, without_bars
from pipeline.modeling.model_config import ModelConfig
from pipeline.modeling.module_limit import at_most
from pipeline.modeling.weights import first_not_finite
from pipeline.pretrained.folder_checks import AGAIN, read_shapes
from pipeline.pretrained.link_view import opened
from pipeline.pretrained.origin import MODEL_FILES, TOKENIZER_FILES, check_model_files

PARTS_OF_A_TENSOR, SPARE_PARTS = 20, 10_000
"""Modules and parameters that a model may have for each tensor in its files, and beyond these."""

SPARE_NUMBERS = 2**26
"""Numbers that a model may have beyond its weights: a new head, and tables that are computed."""


def load_pretrained(config: ModelConfig, tokenizer: PreTrainedTokenizerBase, seed: int, head: Head) -> PreTrainedModel:
    """The pretrained model in the precision in which it was saved, with a row for every id of the tokenizer.

    Weights that the checkpoint lacks, which only a new head may be, are drawn from `seed`. Raises ConfigError for a
    folder that gives no such model and for a tokenizer that is not the model's.
    """
    with opened(config, "model", (*MODEL_FILES, *TOKENIZER_FILES)) as folder:
        check_model_files(map(str, folder.iterdir()), config, "model")
        _check_vocabulary(folder, tokenizer, config)
        model = _load(folder, config, seed, head)
    if name := first_not_finite(dict(model.named_parameters())):
        raise ConfigError(
            f"model.pretrained: {config.pretrained} has weights that are not finite, such as {name}; take an earlier "
            "checkpoint of it"
        )
    resize_vocabulary(model, vocabulary_size(tokenizer))
    _set_special_ids(model, tokenizer, head)
    return model


def _load(folder: Path, config: ModelConfig, seed: int, head: Head) -> PreTrainedModel:
    hf_config = read_config(folder, config, head)
    _check_memory(folder, hf_config, config, head)
    cannot = f"model.pretrained: {config.pretrained} cannot be loaded"
    with config_errors(cannot, folder, config.pretrained), without_bars(), torch.random.fork_rng():
        torch.manual_seed(seed)
        model, found = head.auto_class.from_pretrained(
            folder,
            config=hf_config,
            dtype="auto",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=config.trust_remote_code,
            output_loading_info=True,
            # A classifier of other classes gets a new head.
            ignore_mismatched_sizes=not head.is_pretrained,
        )
    if head.is_pretrained and found["missing_keys"]:
        raise ConfigError(
            f"model.pretrained: {config.pretrained} lacks weights of {type(model).__name__}, such as "
            f"{min(found['missing_keys'])}; take a checkpoint of a causal language model"
        )
    assert isinstance(model, PreTrainedModel)
    return model


def _check_memory(folder: Path, hf_config: PreTrainedConfig, config: ModelConfig, head: Head) -> None:
    """Raises ConfigError for a configuration whose model would take far more memory than the weights beside it. Code
    that is trusted is not asked."""
    if config.trust_remote_code:
        return
    shapes = [shape for path in folder.glob("*.safetensors") for shape in read_shapes(path, "").values()]
    most = PARTS_OF_A_TENSOR * len(shapes) + SPARE_PARTS
    where = f"model.pretrained: {config.pretrained}"
    with (
        config_errors(f"{where} cannot be built as its config.json says"),
        torch.device("meta"),
        no_init_weights(),
        at_most(most, where),
    ):
        model = head.auto_class.from_config(hf_config)
    wanted = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    found = sum(math.prod(shape) for shape in shapes)
    if wanted > 4 * found + SPARE_NUMBERS:
        raise ConfigError(
            f"{where}: config.json describes a model of {wanted:,} numbers, but the weights beside it have {found:,}; "
            f"{AGAIN}"
        )


def vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """One more than the tokenizer's largest id: the rows that an embedding needs."""
    return max(tokenizer.get_vocab().values()) + 1


@torch.no_grad()
def resize_vocabulary(model: PreTrainedModel, size: int) -> None:
    """Add rows up to `size` to both embeddings, each the mean of the rows before it; never take rows away.

    At their mean no new token's logit stands out (Hewitt 2021, "Initializing New Word Embeddings for Pretrained
    Language Models"), and nothing is drawn.
    """
    old = model.get_input_embeddings().weight.shape[0]
    if size <= old:
        return
    model.resize_token_embeddings(size, mean_resizing=False)
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        for values in (getattr(module, "weight", None), getattr(module, "bias", None)):
            if isinstance(values, nn.Parameter) and values.shape[0] == size:
                values[old:] = values[:old].float().mean(dim=0).to(values.dtype)


def new_rows(config: ModelConfig, model: PreTrainedModel) -> int:
    """How many rows the vocabulary has more than in the folder of the pretrained model."""
    with opened(config, "model", ("config.json",)) as folder:
        hf_config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    before = {**hf_config, **hf_config.get("text_config", {})}.get("vocab_size")
    now: int = model.get_input_embeddings().weight.shape[0]
    return max(0, now - before) if isinstance(before, int) else 0


def _set_special_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, head: Head) -> None:
    text = model.config.get_text_config()
    text.eos_token_id = tokenizer.eos_token_id
    if head is not CAUSAL_LM or tokenizer.pad_token_id != tokenizer.eos_token_id:
        # Many models take the row of padding for one that learns nothing.
        text.pad_token_id = tokenizer.pad_token_id
    generation = getattr(model, "generation_config", None)
    if generation is not None:
        generation.pad_token_id = tokenizer.pad_token_id
        # A chat model may know more ends than one.
        ends = generation.eos_token_id if isinstance(generation.eos_token_id, list) else []
        generation.eos_token_id = sorted({*ends, tokenizer.eos_token_id}) if ends else tokenizer.eos_token_id


def read_config(folder: Path, config: ModelConfig, head: Head) -> PreTrainedConfig:
    """The configuration of a pretrained model's folder with the section's values and the head's.

    Raises ConfigError where it has none that can be used, and for values that the architecture does not take.
    """
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": config.trust_remote_code}
    where = f"model.pretrained: {config.pretrained}"
    with config_errors(f"{where} has no usable config.json", folder, config.pretrained):
        hf_config = AutoConfig.from_pretrained(folder, **options)
    if getattr(hf_config, "quantization_config", None) is not None:
        raise ConfigError(
            f"{where} is quantized already, and such weights cannot be trained; take the model that it was made from"
        )
    check_keys(config.config, hf_config, head)
    with config_errors(f"model.config: {hf_config.model_type} refuses these values"):
        return AutoConfig.from_pretrained(folder, **options, **config.config, **head.config_values)


def _check_vocabulary(folder: Path, tokenizer: PreTrainedTokenizerBase, config: ModelConfig) -> None:
    """Raises ConfigError when the folder brings a tokenizer whose tokens have other ids than the run's."""
    if not (folder / "tokenizer_config.json").is_file():
        return
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": config.trust_remote_code}
    with config_errors(f"model.pretrained: {config.pretrained} gives no tokenizer", folder, config.pretrained):
        own = AutoTokenizer.from_pretrained(folder, **options).get_vocab()
    given = tokenizer.get_vocab()
    other = next((token for token, index in own.items() if given.get(token) != index), None)
    if other is not None:
        raise ConfigError(
            f"tokenizer: it is not that of model.pretrained: {other!r} is token {own[other]} of {config.pretrained} "
            f"and {given.get(other, 'no token')} here; name the same folder in tokenizer.pretrained"
        )
