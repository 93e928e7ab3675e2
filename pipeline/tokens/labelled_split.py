"""Documents with labels as sequences: how a stream is packed into them, and their reader."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

from pipeline.errors import BadDataError
from pipeline.tokens.document_parts import DocumentPart
from pipeline.tokens.labels import LABELS
from pipeline.tokens.packing import special_ids
from pipeline.tokens.token_streams import INDEX, STREAM, TokenStream

SEQUENCES, TARGETS = "sequences.npy", "targets.npy"
CLASSES = "labels/classes.json"
"""In the artifact of pack: `{"task", "classes"}`. The model's head has an output for each class."""

NO_LABEL = "without a label"


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


def count_dropped(labels: Sequence[str | None], others: Mapping[str, int]) -> dict[str, int]:
    """How many documents are left out, by reason: those without a label, and `others`."""
    counts = {NO_LABEL: sum(label is None for label in labels), **others}
    return {reason: count for reason, count in counts.items() if count}


def pack_documents(
    encoded: Mapping[str, Any],
    encode_folder: Path,
    split: str,
    block_size: int,
    strategy: str,
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
        "strategy": strategy,
        **special_ids(encoded),
        "windows": len(found.sequences),
        "tokens": stream["tokens"],
        "target_tokens": len(found.sequences),
        "truncated": int((lengths > block_size).sum()),
        "dropped": found.dropped,
        "stream_digest": stream["digest"],
    }


def _in_words(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "it is empty"


@dataclass(frozen=True)
class LabelledSplit:
    """One split's documents with labels, each a sequence of at most `block_size` tokens. When a longer document is cut,
    the tokens behind every text, at least the end-of-document token, are kept: a model's head reads the last token."""

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
    """Tokens that end every document, such as `[SEP]`."""

    label_dtype: DTypeLike
    """Of the labels of a batch."""

    @classmethod
    def open(cls, pack_folder: Path, encode_folder: Path, split: str, label_dtype: DTypeLike) -> LabelledSplit:
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
            label_dtype=label_dtype,
            **{name: packed[name] for name in ("block_size", "vocab_size", "pad_token_id")},
        )

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.starts)

    @property
    def target_tokens(self) -> int:
        """Targets of all sequences: one each."""
        return len(self)

    def num_targets(self, indices: Iterable[int]) -> int:
        """How many labels of `batch(indices)` there are."""
        return sum(1 for _ in indices)

    def num_tokens_in(self, indices: Iterable[int]) -> int:
        """Tokens of `batch(indices)` without padding."""
        return int(self.lengths[list(indices)].sum())

    def documents_in(self, index: int) -> list[DocumentPart]:
        """The one document that a sequence is of."""
        return [DocumentPart(int(self.documents[index]), slice(0, 1), int(self.starts[index]))]

    def batch(self, indices: Iterable[int]) -> dict[str, NDArray[Any]]:
        """Sequences as `input_ids` and `attention_mask`, (n, longest) int64, padded on the right, and `labels` (n,):
        of `label_dtype`."""
        chosen = list(indices)
        shape = (len(chosen), int(self.lengths[chosen].max()))
        input_ids, mask = np.full(shape, self.pad_token_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for row, index in enumerate(chosen):
            start, length = self.starts[index], self.lengths[index]
            suffix = self.suffix_token_ids[-length:]
            input_ids[row, : length - len(suffix)] = self.stream[start : start + length - len(suffix)]
            input_ids[row, length - len(suffix) : length] = suffix
            mask[row, :length] = 1
        labels = self.targets[chosen].astype(self.label_dtype)
        return {"input_ids": input_ids, "attention_mask": mask, "labels": labels}
