"""Token streams in the layout of datatrove 0.10.1: ids, document ends, and three lines of metadata.

stream.ds            ids of all documents, each with its end-of-document id; little-endian uint16 or uint32
stream.ds.index      for each document the position after its last id, in tokens; little-endian uint64
stream.ds.metadata   "<tokenizer>|<bytes an id>", the number of tokens, and that number in short
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

STREAM, INDEX, METADATA = "stream.ds", "stream.ds.index", "stream.ds.metadata"


def id_dtype(vocab_size: int) -> np.dtype:
    """The smallest of uint16 and uint32 that holds every id, little-endian."""
    return np.dtype("<u2") if vocab_size <= 2**16 else np.dtype("<u4")


class StreamWriter:
    """Writes one stream, batch by batch, with flat memory; the files are whole when the `with` block ends."""

    def __init__(self, folder: Path, dtype: np.dtype, tokenizer_name: str) -> None:
        folder.mkdir(parents=True)
        self.num_tokens = 0
        self.num_documents = 0
        self._folder = folder
        self._dtype = dtype
        self._tokenizer_name = tokenizer_name
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        self._stream = (self._folder / STREAM).open("wb")
        self._index = (self._folder / INDEX).open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.close()
        self._index.close()
        if error is None:
            lines = (f"{self._tokenizer_name}|{self._dtype.itemsize}", str(self.num_tokens), in_short(self.num_tokens))
            (self._folder / METADATA).write_text("\n".join(lines))

    def write(self, ids: NDArray, lengths: NDArray) -> None:
        """Append documents: their ids one after another, (sum of lengths,), and their lengths, (documents,); the
        end-of-document ids are among them."""
        data = ids.astype(self._dtype).tobytes()
        self._stream.write(data)
        self._hash.update(data)
        ends = self.num_tokens + np.cumsum(lengths, dtype=np.uint64)
        self._index.write(ends.astype("<u8").tobytes())
        self.num_tokens += len(ids)
        self.num_documents += len(lengths)

    @property
    def digest(self) -> str:
        """SHA-256 of the ids written so far. It pins the document ends too: they follow the end-of-document ids."""
        return self._hash.hexdigest()


def in_short(num_tokens: int) -> str:
    """Three significant digits with a metric prefix, such as "1.23 MT": datatrove's `humanize.metric(n, unit="T")`."""
    for power, prefix in enumerate(("", "k", "M", "G", "T", "P")):
        value = num_tokens / 1000**power
        for digits, limit in ((2, 10), (1, 100), (0, 1000)):
            if round(value, digits) < limit:
                return f"{value:.{digits}f} {prefix}T"
    raise AssertionError(f"{num_tokens} tokens")
