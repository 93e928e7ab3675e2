"""Check an untrusted model folder before a library opens it: its JSON files and the headers of its weights. Imports
nothing heavy.

Libraries follow what such files say. An index may name a pickle or a path, a configuration may take code from
elsewhere or ask for more memory than any machine has, a link may lead to a file that is nobody else's business.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.errors import ConfigError

AGAIN = "take the folder from its source again"
WEIGHTS, INDEX = ".safetensors", ".safetensors.index.json"
DIGITS = re.compile("[0-9]{1,18}")
LARGEST_HEADER = 100_000_000
"""Bytes of a safetensors header, as the library allows."""

SPARE_IDS = 2**16
"""Numbers that a vocabulary may leave out: each costs a row of the embeddings."""

WIDTH = ("hidden_size", "n_embd", "d_model", "dim", "embed_dim")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
KEY_HEADS = ("num_key_value_heads", "n_kv_heads", "num_kv_heads")
INNER_WIDTH = ("intermediate_size", "n_inner", "d_ff", "ffn_dim", "hidden_dim")
LENGTH = ("max_position_embeddings", "n_positions", "n_ctx", "block_size", "max_seq_len")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
CHOSEN_EXPERTS = ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "moe_top_k", "top_k_experts")
SAME_SETTING = (WIDTH, LAYERS, HEADS, KEY_HEADS, INNER_WIDTH, LENGTH, EXPERTS, (*CHOSEN_EXPERTS, "top_k"))
"""Names of one setting in different architectures and elsewhere."""

ABSURD = {
    **dict.fromkeys(EXPERTS, 10_000),
    **dict.fromkeys([*WIDTH, *HEADS, *KEY_HEADS, *INNER_WIDTH], 1_000_000),
    **dict.fromkeys(["vocab_size", "head_dim", "num_labels"], 1_000_000),
}
"""Largest counts of experts, and widths, that are believed without a look at the weights. Building such a model takes
little time and no memory. Some have no effect, such as the width of plain layers in a mixture that has none."""

ABSURD_LAYERS = 1_000
ABOUT_LAYERS = re.compile(r"(?!.*(size|length|width|dim)).*(layer|depth|block)", re.IGNORECASE)
"""A setting that may count layers, in whatever part of a model and under whatever name."""
COUNTS_LAYERS = re.compile(rf"(num|n|encoder|decoder)_(\w+_)?(layers?|blocks?|depth)|{'|'.join(LAYERS)}")
"""One that surely does: others may name a layer, counted from the end if negative."""

Shapes = dict[str, tuple[int, ...]]


def check_links(paths: Iterable[Path], folder: Path, where: str) -> None:
    """Raises ConfigError for a path that leads out of `folder` through a link: its target might be published with the
    model. Weights may lie elsewhere, since a file of any other kind is refused as weights. Links inside the hub's cache
    are allowed."""
    home = Path(os.path.realpath(folder))
    homes = [home, home.parents[1] / "blobs"] if home.parent.name == "snapshots" else [home]
    for path in paths:
        target = Path(os.path.realpath(path))
        if not path.name.endswith(WEIGHTS) and not any(target.is_relative_to(one) for one in homes):
            raise ConfigError(
                f"{where}: {path.relative_to(folder)} is a link out of the folder; put the file itself there"
            )


@contextmanager
def nothing_but(paths: Iterable[Path], folder: Path) -> Iterator[Path]:
    """A folder of the same name with links to these files of `folder` and nothing else. A library that looks into it
    finds no file outside the identity, such as an adapter or another version of a file."""
    with TemporaryDirectory() as scratch:
        view = Path(scratch, folder.name or folder.resolve().name)
        view.mkdir()
        for path in paths:
            link = view / path.relative_to(folder)
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(path.resolve())
        yield view


def read_object(path: Path, where: str) -> dict[str, Any]:
    """The object in a JSON file. Raises ConfigError when there is none."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise ConfigError(f"{where}: {path.name} cannot be read as JSON ({reason}); {AGAIN}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: {path.name} holds no JSON object; {AGAIN}")
    return value


def check_model_folder(files: Mapping[str, Path], where: str) -> None:
    """Look through a model's folder, given as its files by name.

    Raises ConfigError where a file names another that is not weights in the folder, or code of the hub, and where the
    configuration is of a far larger model than the weights.
    """
    weights = {name for name in files if name.endswith(WEIGHTS)}
    for name in (name for name in files if name.endswith(INDEX)):
        named = read_object(files[name], where).get("weight_map")
        if not isinstance(named, dict):
            raise ConfigError(f"{where}: {name} has no weight_map; save the model again with save_pretrained")
        _check_named({str(file) for file in named.values()}, weights, files[name], where)
    if "config.json" not in files:
        raise ConfigError(f"{where} has no config.json, so it is no model's folder")
    config = read_object(files["config.json"], where)
    explicit = config.get("transformers_weights")
    if explicit is not None and explicit not in files:
        _check_named({str(explicit)}, weights, files["config.json"], where)
    _check_code(config, files["config.json"], where)
    shapes: Shapes = {}
    for name in sorted(weights):
        shapes |= read_shapes(files[name], where)
    if weights:
        _check_sizes(config, shapes, files["config.json"], where)


def _check_named(named: set[str], weights: set[str], path: Path, where: str) -> None:
    for name in sorted(named - weights):
        if name.endswith(WEIGHTS) and Path(name).name == name:
            raise ConfigError(f"{where}: {path.name} names {name}, which is not there; {AGAIN}")
        raise ConfigError(
            f"{where}: {path.name} names {name!r}, and only *{WEIGHTS} in the folder itself are read; save the model "
            "again with save_pretrained"
        )


def _check_code(config: Mapping[str, Any], path: Path, where: str) -> None:
    """A kernel of the hub is compiled code, which no commit pins."""
    for key, value in _settings(config):
        if "implementation" in key and "/" in str(value):
            raise ConfigError(f"{where}: {path.name} takes code from the hub ({key}: {value!r}); remove that line")


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings of a model and of the models that it is made up of; of a list each item."""
    pending: list[tuple[str, Any]] = [*config.items()]
    while pending:
        key, value = pending.pop()
        if isinstance(value, dict):
            pending += value.items()
        elif isinstance(value, list):
            pending += [(key, item) for item in value]
        else:
            yield key, value


def _check_sizes(config: Mapping[str, Any], shapes: Shapes, path: Path, where: str) -> None:
    """Raises ConfigError for a size that is absurd unless the weights bear it out: as many layers need as many tensors;
    any other size needs as many, or a tensor with such a side."""
    largest = max((side for shape in shapes.values() for side in shape), default=0)
    for key, value in _settings(config):
        if not isinstance(value, int):
            continue
        if value < 0 and COUNTS_LAYERS.fullmatch(key):
            raise ConfigError(f"{where}: {path.name} says {key} {value:,}; {AGAIN}")
        if ABOUT_LAYERS.match(key):
            limit = max(ABSURD_LAYERS, len(shapes))
        elif key in ABSURD:
            limit = max(ABSURD[key], largest, len(shapes))
        else:
            continue
        if value > limit:
            raise ConfigError(
                f"{where}: {path.name} says {key} {value:,}, but the weights beside it are {len(shapes):,} tensors "
                f"with sides up to {largest:,}; {AGAIN}"
            )


def read_shapes(path: Path, where: str) -> Shapes:
    """Shapes of the tensors in a safetensors file by name, from its header. Raises ConfigError when it is none."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            size = os.fstat(file.fileno()).st_size - 8
            if length > min(size, LARGEST_HEADER):
                raise ValueError
            header = json.loads(file.read(length))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        if any(type(side) is not int or side < 0 for shape in shapes.values() for side in shape):
            raise ValueError
        if end != size - length:
            raise ValueError
    except (OSError, ValueError, RecursionError, struct.error, AttributeError, KeyError, TypeError, IndexError):
        raise ConfigError(
            f"{where}: {path.name} is no whole safetensors file; take it from its source again (in a clone with "
            "`git lfs pull`)"
        ) from None
    return shapes


def without_foreign_code(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The settings in one of a folder's files without entries of `auto_map` whose code is not in the folder."""

    def is_here(entry: Any) -> bool:
        names = entry if isinstance(entry, list) else [entry]
        modules = [name.partition(".")[0] for name in names if isinstance(name, str)]
        return bool(modules) and all((folder / f"{module}.py").is_file() for module in modules)

    entries = values.get("auto_map")
    kept = {name: entry for name, entry in entries.items() if is_here(entry)} if isinstance(entries, dict) else {}
    others = {name: value for name, value in values.items() if name != "auto_map"}
    return others | {"auto_map": kept} if kept else others


def check_tokenizer_folder(files: Mapping[str, Path], where: str) -> None:
    """Look through a tokenizer's folder, given as its files by name.

    Raises ConfigError for an id far beyond the number of tokens, since a model has a row for each id, and where an id
    that is put around a text is no token's.
    """
    ids: list[Any] = []
    around: list[Any] = []
    for name in ("tokenizer.json", "vocab.json", "added_tokens.json", "tokenizer_config.json"):
        if name in files:
            values = read_object(files[name], where)
            ids += [
                (name, int(one) if isinstance(one, str) and DIGITS.fullmatch(one) else one)
                for one in _ids(values, name)
            ]
            around += _ids_around(values.get("post_processor")) if name == "tokenizer.json" else []
    count = len(ids) + sum(_most_tokens(path) for path in files.values())
    for name, index in ids:
        if not isinstance(index, int) or not -1 < index < count + SPARE_IDS:
            raise ConfigError(
                f"{where}: {name} gives a token the number {index!s:.20}, and there are {count:,} tokens; {AGAIN}"
            )
    known = {index for _, index in ids}
    for index in around:
        if not isinstance(index, int) or index not in known:
            raise ConfigError(
                f"{where}: tokenizer.json puts the number {index!s:.20} around a text, and no token has it; {AGAIN}"
            )


def _ids(values: Mapping[str, Any], name: str) -> list[Any]:
    """Numbers of tokens in one of a tokenizer's files."""
    if name == "tokenizer_config.json":
        return [*_mapping(values.get("added_tokens_decoder"))]
    if name != "tokenizer.json":
        return [*values.values()]
    added, vocabulary = values.get("added_tokens"), _mapping(values.get("model")).get("vocab")
    numbers = range(len(vocabulary)) if isinstance(vocabulary, list) else _mapping(vocabulary).values()
    return [*numbers, *(_mapping(token).get("id") for token in _list(added))]


def _ids_around(processor: Any) -> list[Any]:
    """Numbers of the tokens that a post-processor, or one in its sequence, puts around a text."""
    found: list[Any] = []
    pending = [processor]
    while pending:
        one = _mapping(pending.pop())
        pending += _list(one.get("processors"))
        found += [index for name in ("cls", "sep") for index in _list(one.get(name))[1:]]
        for token in _mapping(one.get("special_tokens")).values():
            found += _list(_mapping(token).get("ids"))
    return found


def _most_tokens(path: Path) -> int:
    """How many tokens a vocabulary that is no JSON may have: a line each, or in a binary file five bytes."""
    if path.name == "vocab.txt":
        return path.read_bytes().count(b"\n") + 1
    return path.stat().st_size // 5 if path.suffix == ".model" else 0


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
