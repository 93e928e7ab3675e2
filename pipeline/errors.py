"""The exceptions that users see. Each carries the process exit code and prints as one line."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DescentError(Exception):
    """Something a user can mend. The message is one line: what, where, and what to do."""

    exit_code = 70


class BadDataError(DescentError):
    """The input data is not usable: too many rejected records, an empty corpus, wrong columns."""

    exit_code = 65


class MissingInputError(DescentError):
    """A file, folder or upstream artifact that the work needs does not exist."""

    exit_code = 66


class DivergedError(DescentError):
    """Training produced a loss or gradient from which it cannot go on."""

    exit_code = 70


class LostPeerError(DescentError):
    """Another process of the same training ended; that one says why."""


class StorageError(DescentError):
    """Reading or writing failed: disk full, permission, input/output error."""

    exit_code = 74


class InterruptedRun(DescentError):
    """A signal stopped the run after its progress was saved; running again goes on from there."""

    exit_code = 75


class ConfigError(DescentError):
    """The configuration is not valid."""

    exit_code = 78


class ProcessError(DescentError):
    """Another process of the launch failed or is gone. Without a message where that process has told it."""

    def __init__(self, message: str, code: int = DescentError.exit_code) -> None:
        super().__init__(message)
        self.exit_code = code


class InterruptedUnsaved(BaseException):
    """A signal stopped the run and nothing was saved; the code is 128 plus the signal's number.

    No Exception, so that no library takes it for one of its own, and no KeyboardInterrupt, with which Python ends
    a process in its own way when it passed through an `exec`.
    """

    def __init__(self, signum: int) -> None:
        super().__init__("interrupted; nothing of the stage in progress was saved, run again to go on")
        self.exit_code = 128 + signum


def exit_code(error: BaseException) -> int:
    """The process exit code that an error stands for."""
    return error.exit_code if isinstance(error, (DescentError, InterruptedUnsaved)) else 70


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn what the operating system says about files, in `folder` where it names none, into one line."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno is None:
            raise
        where = Path(str(error.filename or folder))
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            around = next(path for path in (where.absolute(), *where.absolute().parents) if path.exists())
            free = shutil.disk_usage(around).free
            raise StorageError(
                f"{where}: the disk is full ({free / 1e6:,.1f} MB free); free some space and run again to go on"
            ) from error
        raise StorageError(f"{where}: {os.strerror(error.errno)}; mend it and run again to go on") from error
