"""The `model:` section: which network to build. Checked without importing transformers."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from pipeline.console.terminal_text import did_you_mean
from pipeline.known_names import is_known, known_names
from pipeline.modeling.presets import PRESETS, PresetName
from pipeline.pretrained.origin import Origin
from pipeline.section import Alternatives, Section

FROM_TOKENIZER = ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id")
"""Values of a transformers configuration that only the tokenizer artifact may set."""

SET_ELSEWHERE = {
    "model_type": "it is model.architecture",
    "dtype": "weights are kept in float32; the precision of computation is train.mixed_precision",
    "torch_dtype": "weights are kept in float32; the precision of computation is train.mixed_precision",
}

DEFAULT_TASK, DEFAULT_ARCHITECTURE = "causal_lm", "llama"


class InitializationConfig(Section):
    """How initial weights are drawn. Biases, norms and what else an architecture sets to constants stay so."""

    type: Literal["default", "normal", "truncated_normal", "xavier", "kaiming"] = "default"
    """Rule for matrices. `default`: the architecture's own. `truncated_normal` ends at three standard deviations.
    `xavier` and `kaiming` follow from the number of inputs and outputs, and leave embeddings as `default` has them."""

    std: float = Field(default=0.02, gt=0)
    """Standard deviation of `normal` and `truncated_normal`."""

    distribution: Literal["normal", "uniform"] = "normal"
    """Shape of `xavier` and `kaiming`."""

    depth_scaled_residuals: bool = False
    """Divide the matrices that write into the residual stream by the square root of their number, two a block, as
    GPT-2 does. transformers' gpt2 has this in its `default` already."""

    embedding_std: float | None = Field(default=None, gt=0)
    """Standard deviation of the token embeddings, such as 1e-4 for a small one. Null leaves them to `type`."""


class AdapterConfig(Section):
    """Train a few weights of an adapter and leave the pretrained model's as they are. Beside `type` go the arguments of
    the method under peft's own names, such as r, lora_alpha and target_modules."""

    model_config = ConfigDict(extra="allow")

    type: str = "lora"
    """A method of peft by its type in lower case, such as lora, ia3, prompt_tuning, loha or vera; or `dora` and
    `rslora`, which are lora with use_dora or use_rslora."""

    @field_validator("type")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name in UNSUPPORTED_ADAPTERS:
            raise ValueError(f"got {name!r}, which {UNSUPPORTED_ADAPTERS[name]}; choose another, such as lora")
        if name not in LORA_VARIANTS and not is_known("adapters", name):
            known = {*known_names("adapters"), *LORA_VARIANTS} - UNSUPPORTED_ADAPTERS.keys()
            raise ValueError(f"got {name!r}, which is no method of peft{did_you_mean(name, known)}")
        return name

    @property
    def arguments(self) -> dict[str, Any]:
        """The method's own arguments."""
        return dict(self.model_extra or {})

    def identity(self) -> dict[str, Any]:
        """All of it."""
        return self.model_dump(mode="json")


class ModelConfig(Origin):
    """Task, architecture and size of the model: by `architecture`, by `preset`, or taken from `pretrained`."""

    alternatives: ClassVar[Alternatives] = (("architecture", "preset", "pretrained"),)
    must_be_given: ClassVar = True

    task: str = DEFAULT_TASK
    """What the model learns. `TaskModelConfig` checks it."""

    architecture: str | None = None
    """A model of transformers for the task by its model type, such as llama, gpt2, qwen3 or mixtral, for labels also
    bert and its kin; or grok1. Null takes the one of the preset or the pretrained model, or else llama."""

    preset: PresetName | None = None
    """A named architecture with the values of its configuration, over which those of `config` go."""

    config: dict[str, Any] = Field(default_factory=dict)
    """Values for the architecture's own configuration class, under its own names, such as hidden_size and
    num_hidden_layers, and dropout: attention_dropout in llama; attn_pdrop, embd_pdrop and resid_pdrop in gpt2. The
    vocabulary size and the special token ids come from the tokenizer."""

    initialization: InitializationConfig = Field(default_factory=InitializationConfig)
    """How initial weights are drawn: each from the seed and its parameter's name, so alike for any sharding."""

    materialize_limit: int = Field(default=10_000_000_000, ge=0)
    """Largest model that is saved with weights, in parameters. Above it the artifact holds the configuration and the
    recipe of the initialization, and training materializes each shard in place."""

    adapter: AdapterConfig | None = None
    """Train an adapter on the pretrained model instead of its weights. Null trains the weights."""

    quantization: Literal["nf4", "fp4", "int8"] | None = None
    """Keep the frozen weights under an adapter in this format of bitsandbytes (QLoRA with nf4); needs a CUDA GPU. The
    export is merged into the weights as they were before. Null keeps them as the checkpoint has them."""

    @field_validator("config")
    @classmethod
    def _leaves_the_tokenizer_its_part(cls, values: dict[str, Any]) -> dict[str, Any]:
        for key, value in values.items():
            if key in FROM_TOKENIZER:
                raise ValueError(f"remove {key}: it comes from the tokenizer (see tokenizer.vocab_size)")
            if key in SET_ELSEWHERE:
                raise ValueError(f"remove {key}: {SET_ELSEWHERE[key]}")
            if not _is_finite(value):
                raise ValueError(f"{key}: {value!r} has a number that is not finite")
        return values

    @model_validator(mode="after")
    def _fits_its_beginning(self) -> Self:
        if self.pretrained is not None and self.initialization != InitializationConfig():
            raise ValueError("a pretrained model has its weights; remove initialization")
        if self.adapter is not None and self.pretrained is None:
            raise ValueError("adapter needs pretrained: random weights would stay as they are; remove adapter")
        if self.quantization is not None and self.adapter is None:
            raise ValueError("quantization needs adapter: rounded weights cannot be trained themselves")
        return self

    def check_fits(self, whole: Any) -> None:
        """A pretrained model keeps its tokenizer."""
        if self.pretrained is not None and whole.tokenizer.type != "pretrained":
            raise ValueError(
                f"model.pretrained {self.pretrained} knows the tokens of its own tokenizer alone; set tokenizer to "
                f"{{type: pretrained, pretrained: {self.pretrained}}}"
            )

    @property
    def model_type(self) -> str | None:
        """The architecture; None where the pretrained model decides."""
        if self.preset is not None:
            return PRESETS[self.preset].architecture
        return None if self.pretrained is not None else self.architecture or DEFAULT_ARCHITECTURE

    @property
    def values(self) -> dict[str, Any]:
        """Values for the architecture's configuration class, those of the preset included."""
        return (PRESETS[self.preset].config if self.preset is not None else {}) | self.config

    def identity(self) -> dict[str, Any]:
        """With the preset's values in place of its name, so that a changed preset is another model."""
        kept = super().identity()
        del kept["preset"]
        return kept | {"architecture": self.model_type, "config": self.values}


UNSUPPORTED_ADAPTERS = {
    "adalora": "moves ranks about on calls that training here does not make",
    "cartridge": "starts from a cache that it is given in code",
    "cpt": "needs other labels than the next token",
    "multitask_prompt_tuning": "needs the task of every sequence",
    "poly": "needs the task of every sequence",
    "xlora": "mixes adapters that are trained already",
}
"""Methods of peft that need more than a model and text, and what."""

LORA_VARIANTS = {"dora": {"use_dora": True}, "rslora": {"use_rslora": True}}
"""Names of lora with an argument, and the argument."""


def _is_finite(value: Any) -> bool:
    """Whether no number inside is infinite or NaN: JSON, and so an identity, cannot tell those apart."""
    if isinstance(value, dict):
        return all(_is_finite(item) for item in value.values())
    if isinstance(value, list):
        return all(_is_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)
