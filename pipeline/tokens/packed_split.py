"""Windows of a packed token stream, read through a memory map."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MissingInputError
from pipeline.tokens.document_parts import DocumentPart
from pipeline.tokens.token_streams import INDEX, STREAM, TokenStream

IGNORED_LABEL = -100
"""Label of a position that has no target: PyTorch's and transformers' `ignore_index`."""


SAMPLED_PARTS = 64


@dataclass(frozen=True)
class PackedSplit:
    """One split's stream of token ids, cut into contiguous windows of `block_size` targets.

    Window i holds the ids at [i * block_size, (i + 1) * block_size], both ends included, so that every token but
    the first of the stream is a target exactly once. The last window may be shorter.
    """

    stream: TokenStream
    """All ids, (num_tokens,), unsigned 16 or 32 bits: each document as the tokenizer gives it to its user, special
    tokens included, and with an end-of-document token behind it."""

    document_ends: NDArray[np.uint64]
    """For each document the position after its end-of-document token, (num_documents,), rising."""

    block_size: int
    vocab_size: int
    pad_token_id: int
    eos_token_id: int
    prefix_token_ids: tuple[int, ...] = ()
    """Tokens that begin every document, such as `<s>`."""

    @classmethod
    def open(cls, pack_folder: Path, encode_folder: Path, split: str) -> PackedSplit:
        """Map a split of a pack artifact and the encode artifact that it indexes.

        Raises MissingInputError when the split is in neither.
        """
        description = pack_folder / split / "pack.json"
        if not description.is_file():
            raise MissingInputError(f"{pack_folder} has no {split} split")
        packed = json.loads(description.read_bytes())
        path = encode_folder / split / STREAM
        assert path.stat().st_size == packed["tokens"] * np.dtype(packed["dtype"]).itemsize, "pack of another stream"
        return cls(
            stream=TokenStream(path, np.dtype(packed["dtype"])),
            document_ends=np.memmap(path.with_name(INDEX), dtype="<u8", mode="r"),
            block_size=packed["block_size"],
            vocab_size=packed["vocab_size"],
            pad_token_id=packed["pad_token_id"],
            eos_token_id=packed["eos_token_id"],
            prefix_token_ids=tuple(packed.get("prefix_token_ids", ())),
        )

    def __len__(self) -> int:
        """Number of windows."""
        return num_windows(self.num_tokens, self.block_size)

    @property
    def num_tokens(self) -> int:
        """Tokens in the stream, end-of-document tokens included."""
        return len(self.stream)

    @property
    def target_tokens(self) -> int:
        """Tokens that some window predicts: all but the first of the stream."""
        return max(0, self.num_tokens - 1)

    def samples(self, limit: int) -> Iterator[NDArray[np.unsignedinteger]]:
        """Ids of the stream in pieces: all of it, or evenly spaced parts of it, of about `limit` tokens in all."""
        parts = SAMPLED_PARTS if self.num_tokens > limit else 1
        length = min(limit // parts, self.num_tokens)
        for part in range(parts):
            start = part * self.num_tokens // parts
            yield self.stream[start : start + length]

    def num_targets(self, indices: Iterable[int]) -> int:
        """How many labels of `batch(indices)` are targets, counted without reading a token."""
        return sum(min(self.block_size, self.target_tokens - index * self.block_size) for index in indices)

    def num_tokens_in(self, indices: Iterable[int]) -> int:
        """Tokens of `batch(indices)` without padding: each has a target."""
        return self.num_targets(indices)

    def window(self, index: int) -> NDArray[np.int64]:
        """Ids of one window, (block_size + 1,) or fewer at the end of the stream. Raises IndexError outside."""
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        start = index * self.block_size
        return self.stream[start : start + self.block_size + 1].astype(np.int64)

    def documents_in(self, index: int) -> list[DocumentPart]:
        """The documents whose tokens are targets of a window, in their order."""
        start = index * self.block_size + 1
        stop = min(start + self.block_size, self.num_tokens)
        first, last = np.searchsorted(self.document_ends, [start, stop - 1], side="right").tolist()
        found = []
        for document in range(first, last + 1):
            begin = max(start, int(self.document_ends[document - 1]) if document else 0)
            end = min(stop, int(self.document_ends[document]))
            found.append(DocumentPart(document, slice(begin - start, end - start), begin))
        return found

    def batch(self, indices: Iterable[int]) -> dict[str, NDArray[np.int64]]:
        """Windows as `input_ids` and `labels`, both (len(indices), block_size).

        `labels[b, t]` is the target of `input_ids[b, t]`: they are shifted already. A short window is padded at
        its right with the pad id and with labels of -100.
        """
        starts = [index * self.block_size for index in indices]
        return self.batch_at([(start, start + 1) for start in starts])

    def batch_at(self, spans: Iterable[tuple[int, int]]) -> dict[str, NDArray[np.int64]]:
        """Like `batch`, for windows that begin anywhere: each span is the position of the first input, and the
        position of the first target that counts; labels before it are -100, so that those tokens are context only.
        """
        spans = list(spans)
        input_ids = np.full((len(spans), self.block_size), self.pad_token_id, dtype=np.int64)
        labels = np.full((len(spans), self.block_size), IGNORED_LABEL, dtype=np.int64)
        for row, (start, first_target) in enumerate(spans):
            if not 0 <= start < self.target_tokens:
                raise IndexError(f"a window at token {start} of a stream of {self.num_tokens}")
            ids = self.stream[start : start + self.block_size + 1]
            input_ids[row, : len(ids) - 1] = ids[:-1]
            labels[row, first_target - start - 1 : len(ids) - 1] = ids[first_target - start :]
        return {"input_ids": input_ids, "labels": labels}


def num_windows(num_tokens: int, block_size: int) -> int:
    """Contiguous windows of `block_size` targets that a stream of `num_tokens` ids gives."""
    return max(0, -(-(num_tokens - 1) // block_size))
