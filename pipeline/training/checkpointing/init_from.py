"""Starting from the weights of another run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedModel

from pipeline.atomic import digest_file
from pipeline.errors import ConfigError
from pipeline.modeling.build import read_model
from pipeline.modeling.library_messages import one_line
from pipeline.modeling.sharding import copy_part
from pipeline.modeling.weights import first_not_finite, model_tensors
from pipeline.pretrained.folder_checks import nothing_but, read_object
from pipeline.pretrained.origin import CODE_FILES, MODEL_FILES


def start_from(folder: Path, model: PreTrainedModel, initial: Path, say: Callable[[str], None]) -> None:
    """Put the weights of a Hugging Face folder into `model`, which was read from the folder `initial`.

    Each process reads the folder whole into its memory. Every weight of the backbone must be in both, in the same
    shape, and the tokenizer must be the same. A head that the folder lacks, as that of a classifier when it holds a
    language model, keeps its initial weights. Raises ConfigError where the two do not fit.
    """
    names = ("tokenizer.json", "vocab.json", "merges.txt")
    for name in names:
        if (folder / name).is_file() and (initial / name).is_file() and _differ(folder / name, initial / name):
            raise ConfigError(
                f"train.init_from: the model in {folder} has another tokenizer, so its tokens mean others"
            )
    found = _weights_of(folder, initial)
    if wrong := first_not_finite(found):
        raise ConfigError(
            f"train.init_from: {folder} has weights that are not finite, such as {wrong}; take an earlier "
            "checkpoint of it"
        )
    backbone, current = f"{model.base_model_prefix}.", model_tensors(model)
    if surplus := [name for name in found if name.startswith(backbone) and name not in current]:
        raise ConfigError(f"train.init_from: {folder} holds {surplus[0]}, for which the model has no place")
    fresh = [name for name in current if name not in found and not name.startswith(backbone)]
    for name, tensor in current.items():
        shape = found[name].shape if name in found else None
        if name not in fresh and shape != tensor.shape:
            has = "lacks it" if shape is None else f"has it as {tuple(shape)}"
            raise ConfigError(
                f"train.init_from: the model needs {name} as {tuple(tensor.shape)}, and {folder} {has}; "
                "give model: the architecture and sizes of that run"
            )
    for name, tensor in current.items():
        if name not in fresh:
            copy_part(tensor, found[name])
    say(f"starting from the weights in {folder}" + (f"; new: {', '.join(fresh)}" if fresh else ""))


def _weights_of(folder: Path, initial: Path) -> dict[str, torch.Tensor]:
    """Weights by the names that they have in memory, which differ from those in the files of some architectures. Code
    in the folder is run only if it is that of the model which is to be trained."""
    code = [*folder.glob("*.py")]
    is_known = all((initial / path.name).is_file() and not _differ(path, initial / path.name) for path in code)
    patterns = (*MODEL_FILES, *(CODE_FILES if is_known else ()))
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    try:
        with nothing_but(files, folder) as view:
            model, missing = read_model(view, torch.float32)
    except Exception as error:
        # Every architecture has checks of its own and raises what it likes.
        reason = one_line(error).replace(str(view), str(folder))
        raise ConfigError(f"train.init_from: the model in {folder} cannot be loaded: {reason}") from None
    return {name: tensor for name, tensor in model_tensors(model).items() if name not in missing}


def _differ(one: Path, other: Path) -> bool:
    if one.name != "tokenizer.json":
        return digest_file(one) != digest_file(other)
    first, second = (read_object(path, "train.init_from") for path in (one, other))
    # What is put around a text, which differs between tasks, changes no token's meaning.
    return bool({**first, "post_processor": None} != {**second, "post_processor": None})
