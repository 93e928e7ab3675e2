"""From the artifact of the model stage to what is trained, and from that to an ordinary folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from pipeline.errors import ConfigError
from pipeline.modeling.adapters import add_adapter, load_adapter, merge_adapter, read_description, save_adapter
from pipeline.modeling.blockwise import read_weights, save_blockwise
from pipeline.modeling.build import load_model, save_model
from pipeline.modeling.export_check import check_export, expected_logits
from pipeline.modeling.export_compatibility import copy_tokenizer
from pipeline.modeling.loading_code import ADAPTER, BASE
from pipeline.modeling.materialize import allocate, is_recipe, materialize, open_empty
from pipeline.modeling.model_config import AdapterConfig
from pipeline.modeling.quantization import load_quantized
from pipeline.modeling.weights import StoredTensor
from pipeline.pretrained.origin import CODE_FILES


def open_for_training(
    artifact: Path, seed: int, *, is_mixed: bool = True, will_be_sharded: bool = False
) -> PreTrainedModel:
    """The model of a model stage's artifact, in float32. Under an adapter, which is drawn from `seed`, the base is
    frozen and in the precision in which it was saved, or quantized; without mixed precision it is in float32 as well.

    A model without an adapter that is saved as a recipe or will be sharded is on the meta device: see `give_weights`.
    Raises ConfigError if it is to be quantized and there is no GPU, or the model will be sharded.
    """
    folder, description = artifact / "model", read_description(artifact)
    if will_be_sharded and description is not None and description["quantization"]:
        raise ConfigError(
            "model.quantization: quantized weights cannot be sharded (FSDP); remove it, or start with "
            "--config_file multi_gpu_ddp.yaml (descent init multi_gpu_ddp writes it)"
        )
    if description is None:
        return open_empty(folder) if will_be_sharded or is_recipe(folder) else load_model(folder)
    kind = description["quantization"]
    base = load_quantized(folder, kind) if kind else load_model(folder, dtype="auto" if is_mixed else torch.float32)
    return add_adapter(base, AdapterConfig(**description["adapter"]), seed)


def give_weights(model: PreTrainedModel, artifact: Path, device: torch.device) -> None:
    """Load the weights onto `device` if the model is still on meta: each process its own shard. Process 0 reads saved
    weights and broadcasts them. All processes call it."""
    folder = artifact / "model"
    if model.device.type != "meta":
        return
    if is_recipe(folder):
        materialize(folder, model, device)
    else:
        allocate(model, device)
        read_weights(model, open_empty(folder), folder)


def save_sharded(weights: Mapping[str, StoredTensor], artifact: Path, output: Path) -> None:
    """Write `output/model`, an ordinary Hugging Face folder, with the weights of a checkpoint, read block by block. The
    model has no adapter."""
    folder = artifact / "model"
    empty = open_empty(folder)
    save_blockwise(empty, weights, lambda: save_model(empty, folder, output / "model", has_weights=True))


def export_model(model: PreTrainedModel, artifact: Path, output: Path, *, is_mixed: bool = True) -> dict[str, Any]:
    """Write `output/model`, an ordinary Hugging Face folder, and of a model with an adapter also `output/adapter`.

    The adapter is merged into `model/`. Where the method has no merged form, `model/` holds the unchanged base in
    `base/` and the adapter in `adapter/`, so that nobody takes the base for the result. The model must not be used
    afterwards.

    Returns what `check_export` found, and under `unmerged` a sentence if the adapter was not merged. Raises ExportError
    if `model/`, loaded as its card says, is not what was trained.
    """
    initial, description = artifact / "model", read_description(artifact)
    if description is None:
        expected = expected_logits(model)
        save_model(model, initial, output / "model")
        return check_export(output / "model", expected, is_merged=False)
    save_adapter(model, output / ADAPTER, description["base"], with_embeddings=description["new_rows"] > 0)
    if description["quantization"] or not is_mixed:
        # Into the weights as they were, not into their rounded or widened form.
        model = load_adapter(load_model(initial, dtype="auto"), output / ADAPTER)
    expected = expected_logits(model)
    if description["merges"]:
        save_model(merge_adapter(model), initial, output / "model")
    else:
        shutil.copytree(initial, output / "model" / BASE)
        shutil.copytree(output / ADAPTER, output / "model" / ADAPTER)
        copy_tokenizer(initial, output / "model", CODE_FILES)
    found = check_export(output / "model", expected, is_merged=description["merges"])
    if description["merges"]:
        return found
    method = description["adapter"]["type"]
    return found | {
        "unmerged": f"{method} adapters are not merged here: model/ holds the unchanged {BASE}/ and the adapter in "
        f"{ADAPTER}/, and both are loaded as its README.md shows"
    }
