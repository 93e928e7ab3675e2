"""Frozen weights in four or eight bits (QLoRA, Dettmers et al. 2023), through bitsandbytes, on a GPU."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from pipeline.errors import ConfigError
from pipeline.pretrained.origin import has_code


def check_quantization(kind: str) -> None:
    """Raises ConfigError where `kind` cannot be used on this machine."""
    if not torch.cuda.is_available():
        raise ConfigError(f"model.quantization {kind} needs a CUDA GPU, and there is none here; set it to null")
    if find_spec("bitsandbytes") is None:
        raise ConfigError(f"model.quantization {kind} needs bitsandbytes; pip install bitsandbytes")


def load_quantized(folder: Path, kind: str) -> PreTrainedModel:
    """The causal language model of a folder on this process's GPU, its matrices quantized, ready for an adapter."""
    from peft import prepare_model_for_kbit_training

    check_quantization(kind)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        local_files_only=True,
        quantization_config=_settings(kind),
        device_map={"": torch.cuda.current_device()},
        trust_remote_code=has_code(folder),
    )
    prepared: PreTrainedModel = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return prepared


def _settings(kind: str) -> Any:
    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=True,
    )
