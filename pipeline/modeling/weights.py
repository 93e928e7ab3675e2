"""Writing tensors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from pipeline.errors import StorageError, os_errno


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Raise what safetensors raises while writing as an OSError where it names one, such as a full disk, else as
    StorageError: what it raises is neither."""
    try:
        yield
    except SafetensorError as error:
        if number := os_errno(error):
            raise OSError(number, os.strerror(number), str(path)) from None
        raise StorageError(f"{path}: {error}; mend it and run again to go on") from None
