"""Folders of models written and read block by block, so that no process has more weights than its own and a block's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from transformers import GenerationConfig, PreTrainedModel, conversion_mapping, modeling_utils
from transformers.core_model_loading import convert_and_load_state_dict_in_model, revert_weight_conversion
from transformers.modeling_utils import LoadStateDictConfig, remove_tied_weights_from_state_dict
from transformers.utils import GENERATION_CONFIG_NAME

from pipeline.modeling.build import load_model
from pipeline.modeling.inputs import replaced
from pipeline.modeling.layer_names import layer_of
from pipeline.modeling.library_messages import without_bars
from pipeline.modeling.materialize import allocate
from pipeline.modeling.sharding import copy_part, shard, spread
from pipeline.modeling.weights import StoredTensor, copy_stored, model_tensors, read_lazily


def save_blockwise(
    empty: PreTrainedModel, weights: Mapping[str, StoredTensor], save_folder: Callable[[], None]
) -> None:
    """Write the files of a model on the meta device with weights that are read from elsewhere.

    `save_folder` calls the model's `save_pretrained`. transformers decides on files and names, in which its
    architectures' weights may be cut and joined in other ways than in memory; the bytes are those of a whole model.
    """
    places: dict[str, tuple[Path, int]] = {}

    def lay_out(tensors: Mapping[str, torch.Tensor], path: str, metadata: Mapping[str, str]) -> None:
        header, offsets = _layout(tensors, metadata)
        Path(path).write_bytes(header)
        os.truncate(path, len(header) + sum(tensor.nbytes for tensor in tensors.values()))
        places.update({name: (Path(path), len(header) + offset) for name, offset in offsets.items()})

    with replaced(modeling_utils, "safe_save_file", lay_out):
        save_folder()
    for names in _blocks(empty):
        block = {name: weights[first].read() for name, first in names.items()}
        for name, tensor in revert_weight_conversion(empty, block).items():
            path, offset = places[name]
            with path.open("r+b") as file:
                file.seek(offset)
                file.write(tensor.contiguous().view(-1).view(torch.uint8).numpy())


def _layout(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> tuple[bytes, dict[str, int]]:
    """The beginning of a safetensors file, and where behind it each tensor is. The order is safetensors' own."""
    nothing = save({name: torch.empty(0, dtype=tensor.dtype) for name, tensor in tensors.items()})
    kinds = json.loads(nothing[8 : 8 + int.from_bytes(nothing[:8], "little")])
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offsets, end = {}, 0
    for name, kind in kinds.items():
        offsets[name], end = end, end + tensors[name].nbytes
        header[name] = {"dtype": kind["dtype"], "shape": [*tensors[name].shape], "data_offsets": [offsets[name], end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, offsets


def load_sharded(build_empty: Callable[[], PreTrainedModel], folder: Path, mesh: DeviceMesh) -> PreTrainedModel:
    """The model of a folder, in evaluation mode, of which each process of a mesh holds a part. `build_empty` makes it
    on the meta device. All processes call it."""
    model = build_empty()
    allocate(model, shard(model, mesh, None, is_trained=False))
    read_weights(model, build_empty(), folder)
    if (folder / GENERATION_CONFIG_NAME).is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model.eval()


def read_weights(model: PreTrainedModel, empty: PreTrainedModel, folder: Path) -> None:
    """Read the weights of a folder into a model that is sharded; `empty` is the same model on the meta device. All
    processes call it. Where the folder has other names than this version of transformers writes, as some published ones
    do, process 0 reads all."""
    with without_bars():
        if can_read_blockwise(empty, folder):
            read_blockwise(model, empty, folder)
        else:
            spread(model_tensors(model), lambda: model_tensors(load_model(folder)))


def can_read_blockwise(empty: PreTrainedModel, folder: Path) -> bool:
    """Whether a folder has the weights of a model on the meta device under the names by which `save_blockwise` would
    write them, and no others."""
    stored = read_lazily(sorted(folder.glob("*.safetensors")))
    state = empty.state_dict()
    wanted = [
        name for names in _blocks(empty) for name in revert_weight_conversion(empty, {n: state[n] for n in names})
    ]
    return stored.keys() == set(wanted)


def read_blockwise(model: nn.Module, empty: PreTrainedModel, folder: Path) -> None:
    """Read the weights of a folder into a model, whole or sharded. `empty` is the same model on the meta device.

    Of weights that are saved as they are in memory a process reads its own part; those of a block that are cut or
    joined in other ways it reads whole.
    """
    stored, current, state = read_lazily(sorted(folder.glob("*.safetensors"))), model_tensors(model), empty.state_dict()
    for names in _blocks(empty):
        unread, saved = dict(names), revert_weight_conversion(empty, {name: state[name] for name in names})
        alike = {id(state[name]): name for name in names}
        converted = {}
        for name, tensor in saved.items():
            if (same := alike.get(id(tensor))) is not None:
                copy_stored(current[unread.pop(same)], stored[name])
            else:
                converted[name] = stored[name].read()
        if unread:
            for name, tensor in _converted(empty, converted, unread):
                copy_part(current[unread[name]], tensor)


def _converted(
    empty: PreTrainedModel, saved: dict[str, torch.Tensor], names: Mapping[str, str]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors of a model as they are in memory, from those of its files."""
    before = {name: empty.get_parameter(name) for name in names}
    mapping = conversion_mapping.get_model_conversion_mapping(empty)
    convert_and_load_state_dict_in_model(empty, saved, LoadStateDictConfig(weight_mapping=mapping))
    empty._weight_conversions = None  # it would hold for all blocks
    for name, parameter in before.items():
        module, _, attribute = name.rpartition(".")
        yield name, empty.get_parameter(name).detach()
        setattr(empty.get_submodule(module), attribute, parameter)


def _blocks(empty: PreTrainedModel) -> Iterator[dict[str, str]]:
    """Names of the tensors of each block that are saved, and of what is outside of blocks; each with the name that
    `model_tensors` has for it, which differs where weights are tied."""
    state = empty.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    for name, tensor in state.items():
        first.setdefault(id(tensor), name)
    kept = remove_tied_weights_from_state_dict(empty.state_dict(), empty)
    blocks: dict[str, dict[str, str]] = {}
    for name in kept:
        blocks.setdefault(layer_of(name, empty.base_model_prefix), {})[name] = first[id(state[name])]
    yield from blocks.values()
