"""Standard streams that may be closed, full or broken. What cannot be written is dropped and noted: printing must not
end a training."""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from typing import Any, BinaryIO, TextIO, cast


class Lenient(io.FileIO):
    """A descriptor to which writing never fails. `error` says why something was dropped, None if nothing was."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of `data`, waiting where the other end is slow and the descriptor does not block."""
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left:
                written = super().write(left)
                if written is None:
                    select.select([], [self], [])
                left = left[written or 0 :]
        except OSError as error:
            self.error = self.error or error
        return size


def make_lenient() -> None:
    """Have `sys.stdout` and `sys.stderr` drop what they cannot write.

    The descriptors of closed standard streams are opened, in a mode that refuses all use. Otherwise the next file that
    is opened would get the number, and what libraries print.
    """
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)
    sys.stdout = _lenient(1, sys.stdout)
    sys.stderr = _lenient(2, sys.stderr)


def output_error() -> OSError | None:
    """Why a part of standard output is lost; None when all of it was written."""
    with suppress(ValueError):  # closed
        sys.stdout.flush()
    descriptor = getattr(sys.stdout, "buffer", None)
    return descriptor.error if isinstance(descriptor, Lenient) else None


def _lenient(number: int, stream: TextIO | None) -> TextIO:
    """A text stream on a descriptor as Python opens it, but without a `BufferedWriter`, as under `python -u`: that
    refuses what a signal handler prints while the interrupted thread is printing."""
    like = stream if isinstance(stream, io.TextIOWrapper) else None
    return io.TextIOWrapper(
        cast("BinaryIO", Lenient(number, "wb", closefd=False)),
        encoding=like.encoding if like else "utf-8",
        errors="backslashreplace",
        line_buffering=like.line_buffering if like else True,
        write_through=like.write_through if like else False,
    )
