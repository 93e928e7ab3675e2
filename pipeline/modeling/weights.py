"""Writing tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from pipeline.errors import StorageError


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Raise what safetensors raises while writing, such as for a full disk, as StorageError: it is no OSError."""
    try:
        yield
    except SafetensorError as error:
        raise StorageError(f"{path}: {error}; mend it and run again to go on") from None
