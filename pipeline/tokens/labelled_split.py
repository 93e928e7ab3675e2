"""Documents with labels as sequences: how a stream is packed into them, and their reader."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.corpus.label_forms import alike_labels, like_none
from pipeline.errors import BadDataError, MissingInputError
from pipeline.tokens.labels import LABELS
from pipeline.tokens.packing import special_ids
from pipeline.tokens.reader import IGNORED_LABEL, PackedSplit
from pipeline.tokens.token_streams import INDEX, STREAM, TokenStream

LabelTask = Literal["classification", "regression"]

SEQUENCES, TARGETS = "sequences.npy", "targets.npy"
CLASSES = "labels/classes.json"
"""In the artifact of pack: `{"task", "classes"}`, of which the head of a model is made."""

MAX_LISTED = 8
"""Labels of a kind that a warning names one by one."""

NO_LABEL, UNSEEN = "without a label", "label not in the training split"


@dataclass(frozen=True)
class LabelledDocuments:
    """The documents of a split that become sequences, and their labels: positions in the stream's index (n,) int64,
    and targets (n,), int64 numbers of classes or float64."""

    sequences: NDArray[np.int64]
    targets: NDArray[np.int64] | NDArray[np.float64]
    dropped: dict[str, int]


def read_stream_labels(encode_folder: Path, split: str) -> list[str | None]:
    """One label a document of a split's stream. Raises BadDataError when none has one."""
    path = encode_folder / split / LABELS
    if not path.is_file():
        raise BadDataError(
            f"pack: no document of the {split} split has a label; name where labels are in ingest.sources (such as "
            f"label_field), or give a larger share to {split} in curate"
        )
    labels: list[str | None] = pq.read_table(path).column("label").to_pylist()
    return labels


def classes_of(labels: Iterable[str | None]) -> list[str]:
    """The labels of the training split, each once and sorted: class number i is the i-th. Raises BadDataError when
    there is but one, since then there is nothing to tell apart."""
    classes = sorted({label for label in labels if label is not None})
    if len(classes) < 2:
        raise BadDataError(
            f"pack: all labels of the training split are {classes[0]!r}; a classification needs two classes or more"
        )
    return classes


def doubtful_classes(labels: Iterable[str | None]) -> list[str]:
    """What is to be warned of where different labels may have been meant as one, or as none."""
    names = {label for label in labels if label is not None}
    warnings = []
    if groups := alike_labels(names):
        shown = "; ".join(_listed(group, " and ") for group in groups[:MAX_LISTED])
        more = f" (and {len(groups) - MAX_LISTED} more)" * (len(groups) > MAX_LISTED)
        warnings.append(
            f"classes that differ in nothing but case, white space or the way to write a number: {shown}{more}; each "
            "is a class of its own: spell them alike in the sources where they are one"
        )
    if found := like_none(names):
        warnings.append(
            f"classes that look like missing labels: {_listed(found, ', ')}; leave them empty in the sources where "
            "they are none"
        )
    return warnings


def _listed(names: Sequence[str], joint: str) -> str:
    return joint.join(repr(name[:60]) for name in names[:MAX_LISTED])


def choose_classes(labels: Sequence[str | None], classes: Sequence[str]) -> LabelledDocuments:
    """The documents whose label is a class. A label that no training document has cannot be learned: such documents
    are left out and counted."""
    numbers = {label: number for number, label in enumerate(classes)}
    kept = [index for index, label in enumerate(labels) if label in numbers]
    targets = np.array([numbers[label] for index in kept if (label := labels[index]) is not None], dtype=np.int64)
    unseen = sum(label is not None for label in labels) - len(kept)
    return LabelledDocuments(np.array(kept, dtype=np.int64), targets, _counted(labels, {UNSEEN: unseen}))


def choose_numbers(labels: Sequence[str | None], split: str) -> LabelledDocuments:
    """The documents that have a label, all of which must be finite numbers; else raises BadDataError."""
    kept = [index for index, label in enumerate(labels) if label is not None]
    targets = np.array([_number(labels[index], index, split) for index in kept], dtype=np.float64)
    return LabelledDocuments(np.array(kept, dtype=np.int64), targets, _counted(labels, {}))


def _number(label: str | None, index: int, split: str) -> float:
    assert label is not None
    try:
        value = float("_" if "_" in label else label)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadDataError(
            f"pack: the label {label[:60]!r} of document {index + 1} of the {split} split is no finite number; mend "
            "it, or set model.task: classification"
        )
    return value


def _counted(labels: Sequence[str | None], others: Mapping[str, int]) -> dict[str, int]:
    counts = {NO_LABEL: sum(label is None for label in labels), **others}
    return {reason: count for reason, count in counts.items() if count}


def pack_documents(
    encoded: Mapping[str, Any],
    encode_folder: Path,
    split: str,
    block_size: int,
    task: LabelTask,
    found: LabelledDocuments,
) -> dict[str, Any]:
    """The content of a split's pack.json for one sequence a document. Raises BadDataError when none is left."""
    if len(found.sequences) == 0:
        raise BadDataError(
            f"pack: no document of the {split} split can be used ({_in_words(found.dropped)}); give more labelled text "
            f"in ingest.sources or a larger share to {split} in curate"
        )
    ends = np.fromfile(encode_folder / split / INDEX, dtype="<u8").astype(np.int64)
    lengths = np.diff(ends, prepend=0)[found.sequences]
    stream = encoded["splits"][split]
    return {
        "block_size": block_size,
        "strategy": task,
        **special_ids(encoded),
        "windows": len(found.sequences),
        "tokens": stream["tokens"],
        "target_tokens": len(found.sequences),
        "truncated": int((lengths > block_size).sum()),
        "dropped": found.dropped,
        "stream_digest": stream["digest"],
    }


def describe_targets(found: LabelledDocuments, classes: Sequence[str] | None) -> dict[str, Any]:
    """Documents of each class, or mean, standard deviation and range of the numbers."""
    if classes is not None:
        counts = Counter(found.targets.tolist())
        return {"classes": {label: counts[number] for number, label in enumerate(classes)}}
    values = found.targets
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
    }


def is_near_one(mean: float, std: float) -> bool:
    """Whether a fresh head, which starts near 0 and learns as fast as all other weights, soon tells such numbers."""
    return abs(mean) <= 10 and 0.1 <= std <= 10


def _in_words(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "it is empty"


@dataclass(frozen=True)
class LabelledSplit:
    """One split's documents with labels, each a sequence of at most `block_size` tokens. What stands behind every
    text, at least the end-of-document token, is kept when a longer document is cut, as by the tokenizer: a model's head
    reads the last token."""

    stream: TokenStream
    starts: NDArray[np.int64]
    """Position of each sequence's first token in the stream, (sequences,)."""

    lengths: NDArray[np.int64]
    """Tokens of each sequence after cutting, the end-of-document token included, (sequences,)."""

    targets: NDArray[np.int64] | NDArray[np.float64]
    documents: NDArray[np.int64]
    """Position of each sequence's document in the split, (sequences,)."""

    block_size: int
    vocab_size: int
    pad_token_id: int
    suffix_token_ids: tuple[int, ...]
    """What each document ends in whatever its text is, such as `[SEP]`."""

    @classmethod
    def open(cls, pack_folder: Path, encode_folder: Path, split: str) -> LabelledSplit:
        """Map a split of a pack artifact and the encode artifact that it indexes."""
        packed = json.loads((pack_folder / split / "pack.json").read_bytes())
        documents = np.load(pack_folder / split / SEQUENCES)
        ends = np.fromfile(encode_folder / split / INDEX, dtype="<u8").astype(np.int64)
        starts = np.concatenate([[0], ends[:-1]])
        path = encode_folder / split / STREAM
        assert path.stat().st_size == packed["tokens"] * np.dtype(packed["dtype"]).itemsize, "pack of another stream"
        return cls(
            stream=TokenStream(path, np.dtype(packed["dtype"])),
            starts=starts[documents],
            lengths=np.minimum((ends - starts)[documents], packed["block_size"]),
            targets=np.load(pack_folder / split / TARGETS),
            documents=documents,
            suffix_token_ids=tuple(packed.get("suffix_token_ids", [packed["eos_token_id"]])),
            **{name: packed[name] for name in ("block_size", "vocab_size", "pad_token_id")},
        )

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.starts)

    @property
    def target_tokens(self) -> int:
        """Tokens that a label is told from: one a sequence."""
        return len(self)

    def num_targets(self, indices: Iterable[int]) -> int:
        """How many labels of `batch(indices)` there are."""
        return sum(1 for _ in indices)

    def num_tokens_in(self, indices: Iterable[int]) -> int:
        """Tokens of `batch(indices)` without padding."""
        return int(self.lengths[list(indices)].sum())

    def batch(self, indices: Iterable[int]) -> dict[str, NDArray[Any]]:
        """Sequences as `input_ids` and `attention_mask`, (n, longest) int64, padded on the right, and `labels` (n,):
        numbers of classes, int64, or numbers, float32."""
        chosen = list(indices)
        shape = (len(chosen), int(self.lengths[chosen].max()))
        input_ids, mask = np.full(shape, self.pad_token_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for row, index in enumerate(chosen):
            start, length = self.starts[index], self.lengths[index]
            suffix = self.suffix_token_ids[-length:]
            input_ids[row, : length - len(suffix)] = self.stream[start : start + length - len(suffix)]
            input_ids[row, length - len(suffix) : length] = suffix
            mask[row, :length] = 1
        labels = self.targets[chosen]
        is_class = labels.dtype.kind == "i"
        return {
            "input_ids": input_ids,
            "attention_mask": mask,
            "labels": labels if is_class else labels.astype(np.float32),
        }


def open_split(pack_folder: Path, encode_folder: Path, split: str) -> PackedSplit | LabelledSplit:
    """A split of a pack artifact by its strategy. Raises MissingInputError when there is none."""
    description = pack_folder / split / "pack.json"
    if not description.is_file():
        raise MissingInputError(f"{pack_folder} has no {split} split")
    if json.loads(description.read_bytes())["strategy"] == "contiguous":
        return PackedSplit.open(pack_folder, encode_folder, split)
    return LabelledSplit.open(pack_folder, encode_folder, split)


def ignore_labels(labels: NDArray[Any]) -> None:
    """Make none of the labels of a batch a target, in place: -100, and NaN among numbers."""
    labels.fill(IGNORED_LABEL if labels.dtype.kind == "i" else math.nan)
