"""Adapters: a few weights beside, or before, a model whose own stay as they are. Through peft.

Methods that change a model's layers (LoRA and its kin) are put into the model in place, which keeps its class and
the names of its modules; after training they are merged into its weights where the method can. Methods that learn a
prompt wrap the model, and are never merged.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from pipeline.atomic import write_json
from pipeline.console.terminal_text import did_you_mean
from pipeline.errors import ConfigError
from pipeline.modeling.heads import has_head_over_labels
from pipeline.modeling.library_messages import config_errors, one_line
from pipeline.modeling.model_config import LORA_VARIANTS, AdapterConfig, ModelConfig
from pipeline.modeling.probe import difference, probe_ids, probe_logits
from pipeline.pretrained.origin import base_name

DESCRIPTION = "adapter.json"
"""In the artifact of the model stage: which adapter to train."""

SET_HERE = {
    "peft_type", "task_type", "inference_mode", "base_model_name_or_path", "revision", "auto_mapping", "peft_version",
    "runtime_config",
}  # fmt: skip
_WRAPPER = "_adapter_wrapper"


def peft_config(config: AdapterConfig, task_type: str = "CAUSAL_LM") -> Any:
    """The configuration of peft that a section means. A head over labels is trained whole and saved with the adapter.

    Raises ConfigError for an argument that the method does not have, with the nearest that it has, or a value that it
    refuses.
    """
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    fixed = LORA_VARIANTS.get(config.type, {})
    method = "lora" if fixed else config.type
    config_class: Any = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(method.upper())]
    known = {field.name for field in dataclasses.fields(config_class) if field.init} - SET_HERE - fixed.keys()
    for name in config.arguments:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ConfigError(f"model.adapter.{name}: {config.type} has no such argument{hint}")
    with config_errors(f"model.adapter: {config.type} refuses these arguments"):
        return config_class(task_type=task_type, **fixed, **config.arguments)


def add_adapter(model: PreTrainedModel, config: AdapterConfig, seed: int) -> PreTrainedModel:
    """Freeze `model` and give it a fresh adapter, the same for the same seed; returns what is to be trained.

    That is `model` itself, or a wrapper where the method learns a prompt, whose logits are those of the given tokens
    alone. Raises ConfigError where the adapter does not fit the model.
    """
    from peft import get_peft_model

    tells_labels = has_head_over_labels(model.config)
    method_config = peft_config(config, "SEQ_CLS" if tells_labels else "CAUSAL_LM")
    if method_config.is_prompt_learning and tells_labels:
        raise ConfigError(f"model.adapter: {config.type} learns a prompt, for language models; for labels take lora")
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the missing path of the base model
            torch.manual_seed(seed)
            wrapper = get_peft_model(model, method_config)
    except Exception as error:
        reason = one_line(error)
        if "specify `target_modules`" in reason:
            raise ConfigError(
                f"model.adapter: which layers of {model.config.model_type} {config.type} changes is not known; name "
                "them in target_modules, such as [q_proj, v_proj] or all-linear"
            ) from None
        raise ConfigError(f"model.adapter: {config.type} does not fit this model: {reason}") from None
    return _adapted(wrapper, method_config.is_prompt_learning)


def wrapper_of(model: nn.Module) -> Any:
    """peft's wrapper of a model with an adapter; None for any other model."""
    from peft import PeftModel

    return model if isinstance(model, PeftModel) else model.__dict__.get(_WRAPPER)


def load_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """`model` with the trained adapter of a folder, as `add_adapter` returns it. Raises ConfigError where its weights
    are not in safetensors: peft would unpickle others."""
    from peft import PeftModel

    if not (folder / "adapter_model.safetensors").is_file():
        raise ConfigError(f"{folder} has no adapter_model.safetensors, and no other format is read")
    wrapper = PeftModel.from_pretrained(model, folder, is_trainable=False)
    return _adapted(wrapper, wrapper.peft_config["default"].is_prompt_learning)


def save_adapter(model: PreTrainedModel, folder: Path, base: Mapping[str, Any], *, with_embeddings: bool) -> None:
    """Write the adapter alone, as peft does; `base` names the pretrained model that it belongs to. The embeddings come
    along where rows were added to those of the base: so resized, it takes them from here."""
    wrapper = wrapper_of(model)
    config = wrapper.peft_config["default"]
    config.base_model_name_or_path = base_name(base["pretrained"], base["revision"])
    config.revision = base["revision"]
    wrapper.save_pretrained(folder, save_embedding_layers=with_embeddings)
    (folder / "README.md").unlink(missing_ok=True)


def merge_adapter(model: PreTrainedModel) -> PreTrainedModel:
    """The plain model with the adapter added into its weights, in place. Tied embeddings are untied where the adapter
    changes one alone: what is added to it would otherwise be in both."""
    if _adapts_one_of_two_tied(model):
        _untie(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tied weights
        merged: PreTrainedModel = wrapper_of(model).merge_and_unload()
    return merged


def _adapts_one_of_two_tied(model: PreTrainedModel) -> bool:
    from peft.tuners.tuners_utils import BaseTunerLayer

    pair = (model.get_input_embeddings(), model.get_output_embeddings())
    weights = [getattr(module, "weight", None) for module in pair]
    if weights[0] is None or weights[0] is not weights[1]:
        return False
    layers = [module for module in pair if isinstance(module, BaseTunerLayer)]
    # Of learned rows peft ties those of the one layer to the other's.
    return bool(layers) and not any(getattr(layer, "tied_adapter", None) for layer in layers)


def _untie(model: PreTrainedModel) -> None:
    """Give the output embedding a weight of its own, which is saved and read as such."""
    output: Any = model.get_output_embeddings()
    layer = output.get_base_layer() if hasattr(output, "get_base_layer") else output
    layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False
    model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)


@torch.no_grad()
def can_merge(model: PreTrainedModel) -> bool:
    """Whether `merge_adapter` gives a model that still computes the same when it was saved and loaded; the model is of
    no further use.

    Tried rather than known: some methods cannot.
    """
    wrapper = wrapper_of(model)
    if wrapper.peft_config["default"].is_prompt_learning:
        return False
    ids, generator = probe_ids(model), torch.Generator().manual_seed(0)
    with wrapper.disable_adapter():
        plain = probe_logits(model, ids)
    for parameter in model.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator, device="cpu")
            parameter += 0.1 * noise.to(parameter)
    adapted = probe_logits(model, ids)
    try:
        merged = merge_adapter(model)
    except (NotImplementedError, ValueError, TypeError):
        return False
    merged.tie_weights()
    # Weights in half precision round what is added to them.
    return difference(merged, probe_logits(merged, ids), adapted) <= 0.1 * difference(merged, plain, adapted)


def virtual_tokens(model: nn.Module) -> int:
    """Positions that a learned prompt takes before a sequence."""
    wrapper = wrapper_of(model)
    return getattr(wrapper.peft_config["default"], "num_virtual_tokens", None) or 0 if wrapper is not None else 0


def save_description(folder: Path, config: ModelConfig, merges: bool, rows: int) -> None:
    """Note in the model's artifact which adapter is to be trained on it, whether it can be merged, and how many `rows`
    the vocabulary has more than that of the base."""
    assert config.adapter is not None
    values = {
        "adapter": config.adapter.model_dump(mode="json"),
        "quantization": config.quantization,
        "merges": merges,
        "new_rows": rows,
        "base": {"pretrained": config.pretrained, "revision": config.revision},
    }
    write_json(folder / DESCRIPTION, values)


def read_description(folder: Path) -> dict[str, Any] | None:
    """What `save_description` noted; None for a model that is trained whole."""
    path = folder / DESCRIPTION
    return json.loads(path.read_bytes()) if path.is_file() else None


def _adapted(wrapper: Any, learns_prompt: bool) -> Any:
    if learns_prompt:
        wrapper.register_forward_hook(_cut_prompt, with_kwargs=True)
        return wrapper
    inner = wrapper.get_base_model()
    # Not as a submodule, of which the wrapper would be one and the model its own.
    inner.__dict__[_WRAPPER] = wrapper
    return inner


def _cut_prompt(module: nn.Module, arguments: Any, named: Mapping[str, Any], output: Any) -> Any:
    """Leave the logits of the given tokens, which follow the learned prompt's."""
    ids = named["input_ids"] if "input_ids" in named else arguments[0]
    output.logits = output.logits[:, -ids.shape[1] :]
    return output
