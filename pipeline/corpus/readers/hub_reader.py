"""Datasets of the Hugging Face Hub, local folders laid out like them, and what `save_to_disk` wrote."""

from __future__ import annotations

import glob
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.corpus.documents import Document, Rejected
from pipeline.corpus.readers.columnar_reader import RowReader
from pipeline.corpus.sources.hub import Hub
from pipeline.corpus.wildcards import fixed_folder
from pipeline.errors import BadDataError, ConfigError, DescentError, MissingInputError, StorageError

READABLE = ("arrow", "csv", "json", "parquet", "text")
"""Kinds of files that are read of a dataset; those of images, audio or archives hold no text."""

BATCH_ROWS = 100


def read_hub(source: Hub, scratch: Path) -> Iterator[Document | Rejected]:
    """The documents of one split, named by the number of their row. `scratch` may be filled and is thrown away.

    Raises MissingInputError, ConfigError, BadDataError or StorageError where the dataset cannot be read: its files
    are not ours to mend, and a part of them would not be the dataset that was pinned.
    """
    with _without_wildcards(Path(source.path)) as folder, _in_one_line(source, folder):
        dataset = _load(source, folder, scratch)
        rows = RowReader(source, source.hub_split, _class_names(dataset.features, source.label_field))
        checked = False
        for table in dataset.with_format("arrow").iter(batch_size=BATCH_ROWS):
            if not checked and (problem := source.missing_from(table.column_names)):
                raise BadDataError(f"{_place(source)}: {': '.join(problem)}; mend the name of the field")
            checked = True
            yield from rows.read(table.to_batches())


def _load(source: Hub, folder: Path, scratch: Path) -> Any:
    """The dataset, which lies in `folder` if it is a local one."""
    import datasets
    from datasets.utils.logging import set_verbosity

    set_verbosity(logging.CRITICAL)  # What it says comes as our error.
    datasets.disable_progress_bars()
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        return _load_from_disk(source, folder)
    is_local = folder.is_dir()
    builder = datasets.load_dataset_builder(
        str(folder.absolute()) if is_local else source.path,
        source.config_name,
        data_files=None if source.data_files is None else {source.hub_split: _chosen(source.data_files, folder)},
        revision=source.revision,
        # The library tells files of a folder apart by their times, not by their content: no cache of it outlives us.
        cache_dir=str(scratch) if is_local else None,
    )
    if not is_local and builder.hash != source.revision:
        # Where the hub cannot be reached, the library takes whatever version of the dataset it finds in its cache.
        raise StorageError(f"{_place(source)}: commit {source.revision} can be had neither from the hub nor its cache")
    if builder.name not in (*READABLE, "cache"):
        raise BadDataError(f"{_place(source)}: its files are of the kind {builder.name!r}, which holds no text")
    if is_local:
        _check_inside(source, folder, [str(p) for files in (builder.config.data_files or {}).values() for p in files])
    if source.streaming:
        return builder.as_streaming_dataset(split=source.hub_split)
    builder.download_and_prepare()
    return builder.as_dataset(split=source.hub_split)


def _chosen(patterns: list[str], folder: Path) -> list[str]:
    """Patterns of files for the library, in which what exists as it is written at their beginning is no wildcard."""
    if not folder.is_dir():
        return patterns
    chosen = []
    for pattern in patterns:
        path = folder / pattern
        fixed = fixed_folder(path)
        rest = path.relative_to(fixed)
        is_as_written = fixed == folder or not fixed.is_relative_to(folder)
        chosen.append(pattern if is_as_written else str(Path(glob.escape(str(fixed.relative_to(folder))), rest)))
    return chosen


@contextmanager
def _without_wildcards(folder: Path) -> Iterator[Path]:
    """A folder whose path the library does not take for a pattern: this one, or else one with links to its files."""
    if not folder.is_dir() or not glob.has_magic(str(folder.resolve())):
        yield folder
        return
    with TemporaryDirectory() as plain:
        for current, _, names in os.walk(folder):
            below = Path(plain, os.path.relpath(current, folder))
            below.mkdir(exist_ok=True)
            for name in names:
                (below / name).symlink_to(Path(current, name).resolve())
        yield Path(plain)


def _load_from_disk(source: Hub, folder: Path) -> Any:
    import datasets

    if not (folder / "state.json").is_file():
        splits = json.loads((folder / "dataset_dict.json").read_bytes())["splits"]
        if source.hub_split not in splits:
            raise ConfigError(f"{_place(source)}: no split {source.hub_split!r}; there are {', '.join(splits)}")
        folder = folder / source.hub_split
    state = json.loads((folder / "state.json").read_bytes())
    _check_inside(source, folder, [str(folder / entry["filename"]) for entry in state["_data_files"]])
    dataset = datasets.load_from_disk(str(folder))
    if dataset.split is not None and str(dataset.split) != source.hub_split:
        raise ConfigError(f"{_place(source)}: no split {source.hub_split!r}; there is {dataset.split}")
    return dataset


def _check_inside(source: Hub, folder: Path, files: list[str]) -> None:
    """Refuse a dataset whose description reaches out of its folder: such files are no part of its identity."""
    for file in files:
        # A link inside of the folder may lead anywhere: what it leads to has been digested.
        as_named = Path(os.path.abspath(file)).is_relative_to(os.path.abspath(folder))
        if "://" in file or not (as_named or Path(file).resolve().is_relative_to(folder.resolve())):
            raise BadDataError(f"{_place(source)}: it names the file {file}, which lies outside of its folder")


def _class_names(features: Any, label_field: str | None) -> list[str] | None:
    """Names of the classes that a label's numbers stand for, where the dataset has them."""
    feature = (features or {}).get(label_field) if label_field else None
    return getattr(feature, "names", None)


def _place(source: Hub) -> str:
    return f"ingest.sources: {source.name}: {source.path}"


@contextmanager
def _in_one_line(source: Hub, folder: Path) -> Iterator[None]:
    """Turn what the library says into the errors that users see, in which `folder` is called as they call it."""
    from datasets.exceptions import DatasetNotFoundError

    def place_and(error: Exception) -> str:
        return f"{_place(source)}: {_line(error).replace(str(folder.absolute()), source.path)}"

    try:
        yield
    except DescentError:
        raise
    except (ConnectionError, TimeoutError) as error:
        raise StorageError(f"{_place(source)}: the hub cannot be reached ({_line(error)}); try again") from None
    except DatasetNotFoundError as error:
        raise MissingInputError(place_and(error)) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise BadDataError(place_and(error)) from None
    except ValueError as error:
        if any(word in str(error) for word in ("BuilderConfig", "onfig name", "nknown split", "ad split")):
            raise ConfigError(place_and(error)) from None
        raise BadDataError(place_and(error)) from None
    except Exception as error:
        raise BadDataError(place_and(error)) from None


def _line(error: BaseException) -> str:
    """The first cause of an error, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:300] or type(error).__name__
