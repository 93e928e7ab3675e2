"""The model of a configuration without its weights, however large."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from transformers import PreTrainedConfig, PreTrainedModel

from pipeline.config import Config
from pipeline.modeling.adapters import add_adapter
from pipeline.modeling.build import build_config
from pipeline.modeling.heads import Head
from pipeline.modeling.library_messages import config_errors
from pipeline.modeling.model_config import AdapterConfig
from pipeline.modeling.module_limit import at_most
from pipeline.modeling.parameters import blocks
from pipeline.modeling.pretrained_model import read_config
from pipeline.planning.fake_quantized import quantize
from pipeline.pretrained.link_view import opened
from pipeline.pretrained.origin import check_vocabulary, model_files
from pipeline.tasks import task_named
from pipeline.tokens.tokenizers.base_tokenizer import EOS_ID, PAD_ID
from pipeline.training.optimization.sparsity import freeze

MOST_PARTS = 500_000
"""Modules and parameters of a model that others describe. A mixture of 61 layers of 384 experts has a third."""


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
    """The architecture's configuration with the vocabulary that the tokenizer is asked for, and the head.

    Raises ConfigError and MissingInputError as building the model.
    """
    model = config.model
    head = task_named(model.task).head()
    if model.pretrained is None:
        return build_config(model, _Vocabulary(config.tokenizer.num_tokens()), head), head
    check_vocabulary(model_files(model, "model"), model, "model")
    with opened(model, "model", ("config.json",)) as folder:
        return read_config(folder, model, head), head


def build_skeleton(
    config: Config,
    architecture: PreTrainedConfig,
    head: Head,
    *,
    adapter: AdapterConfig | None,
    quantization: str | None,
    dtype: torch.dtype,
    depth: int | None,
) -> PreTrainedModel:
    """The model that is trained, with `adapter` and frozen parts. Its weights have shapes but no values. It has `depth`
    blocks if that is given. With `quantization` weights are packed into bytes and cannot be counted. To be called
    inside `memory.without_data`.

    Raises ConfigError where these settings make no model.
    """
    with unset_fake_temporarily(), torch.device("meta"):
        foreign = config.model.pretrained
        bounded = nullcontext() if foreign is None else at_most(MOST_PARTS, f"model.pretrained: {foreign}")
        with config_errors(f"model.config: {architecture.model_type} cannot be built so"), bounded:
            model = head.auto_class.from_config(copy.deepcopy(architecture), dtype=dtype)
        if adapter is not None:
            if quantization is not None:
                quantize(model, quantization)
            model = add_adapter(model, adapter, config.run.seed)
        freeze(model, config.train.freeze)
        if depth is not None:
            stack = _stack(model)
            assert stack is not None
            del stack[depth:]
            model.config.get_text_config().num_hidden_layers = depth
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


@dataclass(frozen=True)
class Depth:
    """How deep a model is: blocks of any shape first, and then blocks that are all alike."""

    first: int
    alike: int


def depth_of(model: PreTrainedModel) -> Depth:
    """The depth of a model; none that are alike where its blocks are not in one list."""
    stack = _stack(model)
    if stack is None or len(stack) != model.config.get_text_config().num_hidden_layers:
        return Depth(0, 0)
    shapes = [tuple((name, p.shape, p.requires_grad) for name, p in block.named_parameters()) for block in stack]
    alike = len(list(takewhile(lambda shape: shape == shapes[-1], reversed(shapes))))
    return Depth(len(shapes) - alike, alike)


def _stack(model: nn.Module) -> nn.ModuleList | None:
    """The list of a model's blocks, where it has just one."""
    found = blocks(model).values()
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList) and {*module} & {*found}]
    return stacks[0] if len(stacks) == 1 and len(stacks[0]) == len(found) else None
