"""Load a trained model for evaluation."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel

from pipeline.distributed.collectives import ALONE, Collectives
from pipeline.distributed.parallel_dims import ParallelDims
from pipeline.machine import wants_cpu
from pipeline.modeling.adapters import virtual_tokens
from pipeline.modeling.bf16 import multiplies_bf16
from pipeline.modeling.blockwise import load_sharded
from pipeline.modeling.build import load_model
from pipeline.modeling.export_compatibility import longest_input
from pipeline.modeling.inputs import context_length
from pipeline.modeling.loading_code import ADAPTER
from pipeline.modeling.materialize import open_empty


@dataclass(frozen=True)
class TrainedModel:
    """A model, the device that computes, and the processes that work on it together: each holds a part of the model, or
    all of it."""

    model: PreTrainedModel
    device: torch.device
    processes: Collectives


def pick_device() -> torch.device:
    """The first GPU if there is one, else the CPU. Of several processes on a machine each gets a GPU of its own."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return torch.device("cuda")
    if wants_cpu(os.environ):
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def load_trained(folder: Path, device: torch.device, dims: ParallelDims = ALONE.dims) -> PreTrainedModel:
    """The model of a Hugging Face folder in the precision in which it was saved, on `device`; in float32 where the
    device would only emulate bf16, many times slower. On a mesh that shards each process gets a part of it, but of an
    adapter beside its base all."""
    dtype: torch.dtype | Literal["auto"] = "auto" if multiplies_bf16(device) else torch.float32
    if dims.is_sharded and not (folder / ADAPTER).is_dir():
        return load_sharded(lambda: open_empty(folder, dtype), folder, dims.mesh(device.type))
    return load_model(folder, dtype=dtype).to(device).eval()


def longest_input_of(model: PreTrainedModel, folder: Path) -> int:
    """Most tokens that a user of the folder should give the model: as many as its tokenizer cuts after, at most the
    model's positions."""
    positions = context_length(model)
    limits = [longest_input(folder), positions and positions - virtual_tokens(model)]
    return min(limit for limit in limits if limit)
