"""Initial weights: a pure function of (seed, parameter name), the same for any sharding.

* xavier: Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks".
* kaiming: He et al. 2015, "Delving Deep into Rectifiers".
* depth-scaled residuals: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3.
* small embedding: https://github.com/BlinkDL/SmallInitEmb.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pipeline.errors import ConfigError
from pipeline.modeling.default_initialization import DefaultInitialization
from pipeline.modeling.heads import Head
from pipeline.modeling.layer_names import is_block, layer_of
from pipeline.modeling.model_config import InitializationConfig
from pipeline.modeling.parameters import blocks
from pipeline.modeling.seeded_weights import Sample, draw, local_part, normal, truncated_normal, uniform

CUT = 3.0
"""Standard deviations at which a truncated normal ends."""

INTO_RESIDUALS = re.compile(
    r"(\b(o_proj|out_proj|c_proj|down_proj|fc2|fc_out|w2|wo|dense_4h_to_h)|(attention|attn|output)\.dense)(\.weight)?$"
)
"""Names of the matrices whose output is added to the residual stream, over transformers' architectures."""


@torch.no_grad()
def initialize(model: PreTrainedModel, config: InitializationConfig, seed: int, head: Head) -> None:
    """Set every parameter of `model` in place, of sharded ones the part that this process holds.

    Raises ConfigError where residuals are to be scaled and no matrix of the architecture is known to feed them.
    """
    plan = _Plan(model, config, DefaultInitialization(model.config, head))
    if config.depth_scaled_residuals and not any(map(plan.feeds_residuals, dict(model.named_parameters()))):
        raise ConfigError(
            f"model.initialization.depth_scaled_residuals: which matrices of {model.config.model_type} feed the "
            "residual stream is not known; set it to false"
        )
    for name, parameter in model.named_parameters():
        local, region = local_part(parameter)
        if local.numel():
            local.copy_(plan.values(name, parameter.shape, region, seed))


class _Plan:
    """Which rule a parameter follows."""

    def __init__(self, model: PreTrainedModel, config: InitializationConfig, default: DefaultInitialization) -> None:
        self._config, self._default = config, default
        self._prefix = model.base_model_prefix
        self._depth = max(1, len(blocks(model)))

    def feeds_residuals(self, name: str) -> bool:
        """Whether the parameter is a matrix of a block whose output is added to the residual stream."""
        return is_block(layer_of(name, self._prefix)) and INTO_RESIDUALS.search(name) is not None

    def values(self, name: str, shape: torch.Size, region: tuple[slice, ...], seed: int) -> torch.Tensor:
        module = self._default.module_of(name)
        sample = self._sample(name, shape, module)
        if sample is None:
            values = self._default.value(name, seed)[region]
        else:
            values = draw(seed, name, shape, region, sample)
            padding = getattr(module, "padding_idx", None)
            if padding is not None and region[0].start <= padding < region[0].stop:
                values[padding - region[0].start] = 0
        if self._config.depth_scaled_residuals and self.feeds_residuals(name):
            # Two branches a block add to the stream.
            values = values / math.sqrt(2 * self._depth)
        return values

    def _sample(self, name: str, shape: torch.Size, module: nn.Module) -> Sample | None:
        """How a matrix is drawn; None for what keeps the architecture's default."""
        config = self._config
        if len(shape) < 2 or not self._default.is_drawn(name):
            return None
        if isinstance(module, nn.Embedding):
            if config.embedding_std is not None:
                return normal(config.embedding_std)
            if config.type in ("xavier", "kaiming"):
                return None  # both reason about sums over inputs, and a look-up has none
        if config.type == "normal":
            return normal(config.std)
        if config.type == "truncated_normal":
            return truncated_normal(config.std, CUT)
        kind = normal if config.distribution == "normal" else uniform
        fan_in, fan_out = fans(module, shape)
        if config.type == "xavier":
            return kind(math.sqrt(2 / (fan_in + fan_out)))
        if config.type == "kaiming":
            return kind(math.sqrt(2 / fan_in))
        return None


def fans(module: nn.Module, shape: Sequence[int]) -> tuple[int, int]:
    """Inputs and outputs of one matrix: of a layer, or of each expert in a stack (experts, outputs, inputs)."""
    if isinstance(module, Conv1D) or getattr(module, "is_transposed", False):
        return shape[-2], shape[-1]
    if isinstance(module, nn.modules.conv._ConvNd):
        taps = math.prod(shape[2:])
        return shape[1] * taps, shape[0] * taps // module.groups
    return shape[-1], shape[-2]
