"""Token streams in the layout of datatrove 0.10.1: ids, document ends, and three lines of metadata.

stream.ds            ids of all documents, each with its end-of-document id; little-endian uint16 or uint32
stream.ds.index      for each document the position after its last id, in tokens; little-endian uint64
stream.ds.metadata   "<tokenizer>|<bytes an id>", the number of tokens, and that number in short
stream.ds.xxh3       for each page of PAGE_BYTES of stream.ds its checksum (64-bit XXH3); little-endian uint64

Training reads a few windows of a stream that may be larger than memory, so a page is checked when it is first touched.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from pipeline.integrity import damaged

STREAM, INDEX, METADATA = "stream.ds", "stream.ds.index", "stream.ds.metadata"
CHECKSUMS = "stream.ds.xxh3"

PAGE_BYTES = 2**16
"""Checked at once. Smaller pages would have more checksums than a process wants to map; of larger ones a random window
would read much that it does not need."""


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
        self._page, self._room = xxhash.xxh3_64(), PAGE_BYTES

    def __enter__(self) -> Self:
        self._stream = (self._folder / STREAM).open("wb")
        self._index = (self._folder / INDEX).open("wb")
        self._checksums = (self._folder / CHECKSUMS).open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._room < PAGE_BYTES:
            self._end_page()
        for file in (self._stream, self._index, self._checksums):
            file.close()
        if error is None:
            lines = (f"{self._tokenizer_name}|{self._dtype.itemsize}", str(self.num_tokens), in_short(self.num_tokens))
            (self._folder / METADATA).write_text("\n".join(lines))

    def write(self, ids: NDArray, lengths: NDArray) -> None:
        """Append documents: their ids one after another, (sum of lengths,), and their lengths, (documents,); the
        end-of-document ids are among them."""
        data = ids.astype(self._dtype).tobytes()
        self._stream.write(data)
        self._hash.update(data)
        self._add_to_pages(memoryview(data))
        ends = self.num_tokens + np.cumsum(lengths, dtype=np.uint64)
        self._index.write(ends.astype("<u8").tobytes())
        self.num_tokens += len(ids)
        self.num_documents += len(lengths)

    def _add_to_pages(self, data: memoryview) -> None:
        while data:
            part, data = data[: self._room], data[self._room :]
            self._page.update(part)
            self._room -= len(part)
            if self._room == 0:
                self._end_page()

    def _end_page(self) -> None:
        self._checksums.write(self._page.intdigest().to_bytes(8, "little"))
        self._page.reset()
        self._room = PAGE_BYTES

    @property
    def digest(self) -> str:
        """SHA-256 of the ids written so far. It pins the document ends too: they follow the end-of-document ids."""
        return self._hash.hexdigest()


class TokenStream:
    """The ids of one stream, (tokens,), read through a memory map; a slice is an array of them.

    Raises DamageError for a slice of a page that does not match its checksum.
    """

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self._path = path
        self._bytes = np.memmap(path, dtype=np.uint8, mode="r")
        self._ids = self._bytes.view(dtype.newbyteorder("<"))
        checksums = path.with_name(CHECKSUMS)
        num_pages = -(-len(self._bytes) // PAGE_BYTES)
        if not checksums.is_file() or checksums.stat().st_size != 8 * num_pages:
            raise damaged(checksums, f"does not hold {num_pages:,} checksums")
        self._checksums = np.memmap(checksums, dtype="<u8", mode="r")
        self._is_checked = np.zeros(num_pages, dtype=bool)

    @property
    def dtype(self) -> np.dtype:
        return self._ids.dtype

    def __len__(self) -> int:
        """Number of ids."""
        return len(self._ids)

    def __getitem__(self, span: slice) -> NDArray[np.unsignedinteger]:
        start, stop, _ = span.indices(len(self))
        size = self.dtype.itemsize
        first, end = start * size // PAGE_BYTES, -(-stop * size // PAGE_BYTES)
        if not self._is_checked[first:end].all():
            for page in range(first, end):
                self._check(page)
        return self._ids[span]

    def _check(self, page: int) -> None:
        if not self._is_checked[page]:
            start, stop = page * PAGE_BYTES, min((page + 1) * PAGE_BYTES, len(self._bytes))
            if xxhash.xxh3_64_intdigest(self._bytes[start:stop].data) != self._checksums[page]:
                raise damaged(self._path, f"does not match its checksum in bytes {start:,} to {stop:,}")
            self._is_checked[page] = True


def in_short(num_tokens: int) -> str:
    """Three significant digits with a metric prefix, such as "1.23 MT": datatrove's `humanize.metric(n, unit="T")`."""
    for power, prefix in enumerate(("", "k", "M", "G", "T", "P")):
        value = num_tokens / 1000**power
        for digits, limit in ((2, 10), (1, 100), (0, 1000)):
            if round(value, digits) < limit:
                return f"{value:.{digits}f} {prefix}T"
    raise AssertionError(f"{num_tokens} tokens")
