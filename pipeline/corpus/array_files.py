"""Arrays in files, written so that a full disk is an error of the operating system.

`ndarray.tofile` and `numpy.save` lose its number, and writing to a mapped file that has no room ends the process.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt


def append_array(file: BinaryIO, array: npt.NDArray[Any]) -> None:
    """Write the values of an array at the end of an open file, as `numpy.fromfile` reads them."""
    file.write(np.ascontiguousarray(array).data)


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write the values of an array to a file of their own, as `numpy.fromfile` reads them."""
    with path.open("wb") as file:
        append_array(file, array)


def save_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array with its shape and dtype to a file, as `numpy.load` reads it."""
    array, header = np.ascontiguousarray(array), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    with path.open("wb") as file:
        file.write(header.getvalue())
        append_array(file, array)


def new_mapped_array(path: Path, dtype: npt.DTypeLike, length: int) -> np.memmap[Any, Any]:
    """An array of zeros in a new file, whose room is taken at once. `length` is 1 or more."""
    num_bytes = np.dtype(dtype).itemsize * length
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        else:
            file.truncate(num_bytes)
    return np.memmap(path, dtype, "r+", shape=length)
