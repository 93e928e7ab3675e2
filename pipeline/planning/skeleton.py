"""The model of a configuration without its weights, however large."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from peft import PeftConfig, get_peft_model
from torch import nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.modeling.build import build_config
from pipeline.modeling.heads import Head, head_of
from pipeline.modeling.parameters import blocks
from pipeline.modeling.settings import one_line
from pipeline.tokens.pretrained import fetch
from pipeline.tokens.training import EOS_ID, PAD_ID


@dataclass(frozen=True)
class _Vocabulary:
    """What a model's configuration asks of a tokenizer, as far as it is known before one is trained."""

    size: int
    pad_token_id: int = PAD_ID
    eos_token_id: int = EOS_ID
    bos_token_id: None = None

    def get_vocab(self) -> dict[str, int]:
        return {"": self.size - 1}


def skeleton_config(config: Config) -> tuple[PreTrainedConfig, Head]:
    """The architecture's configuration with the vocabulary that the tokenizer is asked for, and the head."""
    section = config.model
    head = head_of(section.task)
    if section.pretrained is None:
        return build_config(section, _Vocabulary(config.tokenizer.vocab_size), head), head
    folder = fetch(section, "model", ("config.json",))
    try:
        values = {**section.config, **head.config_values}
        return AutoConfig.from_pretrained(folder, trust_remote_code=section.trust_remote_code, **values), head
    except Exception as error:
        raise ConfigError(
            f"model.pretrained: {section.pretrained} has no usable config.json: {one_line(error)}"
        ) from None


def build_skeleton(
    architecture: PreTrainedConfig,
    head: Head,
    dtype: torch.dtype,
    depth: int | None = None,
    adapter: PeftConfig | None = None,
) -> PreTrainedModel:
    """A model whose weights have shapes but no values, of `depth` blocks alone if that is given; to be called inside
    `memory.without_data`."""
    with unset_fake_temporarily(), torch.device("meta"):
        model = head.auto_class.from_config(copy.deepcopy(architecture), dtype=dtype)
        if depth is not None:
            _shorten(model, depth)
        if adapter is not None:
            model = get_peft_model(model, adapter, low_cpu_mem_usage=True)
    # From the meta device, whose tensors some operations refuse, to the CPU; tied weights stay tied.
    moved: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = moved.setdefault(id(tensor), _on_cpu(tensor))
    return model


def _on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
    return nn.Parameter(fake, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake


def _shorten(model: PreTrainedModel, depth: int) -> None:
    """Leave a model its first `depth` blocks."""
    stack = _stack(model)
    assert stack is not None
    del stack[depth:]
    model.config.get_text_config().num_hidden_layers = depth


def uniform_depth(model: PreTrainedModel) -> int | None:
    """The number of blocks of a model whose blocks are all alike in their parameters, else None."""
    stack = _stack(model)
    if stack is None:
        return None
    shapes = {tuple((name, p.shape) for name, p in block.named_parameters()) for block in stack}
    return len(stack) if len(shapes) == 1 and len(stack) == model.config.get_text_config().num_hidden_layers else None


def _stack(model: nn.Module) -> nn.ModuleList | None:
    """The list of a model's blocks, where it has just one."""
    found = blocks(model).values()
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList) and {*module} & {*found}]
    return stacks[0] if len(stacks) == 1 and len(stacks[0]) == len(found) else None
