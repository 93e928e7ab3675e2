"""Arrays in files, and a disk without room for them."""

from __future__ import annotations

import errno
import io
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus.array_files import append_array, new_mapped_array, save_array, write_array
from pipeline.errors import is_disk_full

PAIR = np.dtype([("document", "<u4"), ("runs", "<u4")])
ARRAYS = [
    np.arange(7, dtype=np.uint64)[::2],
    np.zeros(0, np.int32),
    np.ones(3, PAIR),
    np.arange(6, dtype=np.int64).reshape(2, 3).T,
]


@pytest.mark.parametrize("array", ARRAYS)
def test_numpy_reads_what_was_written(tmp_path: Path, array: np.ndarray) -> None:
    write_array(tmp_path / "a", array)
    with (tmp_path / "a").open("ab") as file:
        append_array(file, array)
    read = np.fromfile(tmp_path / "a", array.dtype)
    assert read.tolist() == 2 * array.ravel().tolist()
    save_array(tmp_path / "b", array)
    assert np.array_equal(np.load(tmp_path / "b"), array)
    whole = io.BytesIO()
    np.save(whole, np.ascontiguousarray(array))
    assert (tmp_path / "b").read_bytes() == whole.getvalue()


def test_a_mapped_array_begins_as_zeros_and_keeps_what_is_written(tmp_path: Path) -> None:
    array = new_mapped_array(tmp_path / "a", np.uint32, 1000)
    assert not array.any()
    array[7] = 9
    del array
    assert np.fromfile(tmp_path / "a", np.uint32).nonzero()[0].tolist() == [7]


def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8192", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        array = np.zeros(10_000)
        for write in (
            lambda: write_array(disk / "a", array),
            lambda: save_array(disk / "b", array),
            lambda: new_mapped_array(disk / "c", np.float64, 10_000),
        ):
            with pytest.raises(OSError, match="space") as raised:
                write()
            assert raised.value.errno == errno.ENOSPC
            assert is_disk_full(raised.value)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
