"""The exceptions that users see. Each carries the process exit code and prints as one line."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb

OS_ERROR = re.compile(r"(?:os error |[Ee]rrno )(\d+)")
BACKTRACKING = "retry-limit-in-match"
"""In what tokenizers' regular expressions say when one needs too many steps; a tenth of a second's."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a run to stop: a terminal's Ctrl-C, a scheduler, a terminal that closes."""


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


class ExportError(DescentError):
    """What would be exported is not the model that was trained."""


class LostPeerError(DescentError):
    """Another process of the same training ended; that one says why."""


class StorageError(DescentError):
    """Reading or writing failed: disk full, permission, input/output error."""

    exit_code = 74


class DamageError(StorageError):
    """A file of an artifact is not what was written. The message names it and says what to type."""


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


class Panic(Exception):
    """A library failed within itself: it panicked (Rust), or tried to end the process."""


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raise as Panic what no `except Exception` would see: pyo3's PanicException, which moreover no process can send
    to another, and a library's SystemExit. A regular expression that gave up is a ConfigError."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise Panic(f"SystemExit: {error}") from error
        if type(error).__name__ == "PanicException":
            if BACKTRACKING in str(error):
                raise ConfigError(
                    "tokenizer: a regular expression in it takes far too long on a text (catastrophic backtracking); "
                    "name another tokenizer, or mend the pattern in its tokenizer.json"
                ) from error
            raise Panic(str(error)) from error
        raise


@contextmanager
def without_panic_messages() -> Iterator[None]:
    """Without what Rust prints to standard error of a panic before it is raised; only for a moment, since nothing else
    is printed there either."""
    try:
        kept = os.dup(2)
    except OSError:  # closed
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


IN_STAGE = "in stage "
"""How the note begins that an exception carries of the stage in which it was raised."""


OWN_CODE = "__own_code__"
"""Name of the variable of a module of the user's own that holds its path."""

IN_OWN_CODE = "in own code at "
"""How the note begins that an exception carries of the user's own code in which it came up."""


def own_code_line(error: BaseException) -> str:
    """`FILE:LINE` of the user's own code in which an exception came up; empty where it was not there."""
    frames = [(frame.f_globals.get(OWN_CODE), line) for frame, line in walk_tb(error.__traceback__)]
    return next((f"{path}:{line}" for path, line in reversed(frames) if path is not None), "")


def note_own_code(error: BaseException) -> None:
    """Let an exception carry the line of the user's own code in which it came up, to other processes as well."""
    if place := own_code_line(error):
        error.add_note(f"{IN_OWN_CODE}{place}")


def in_one_line(error: BaseException) -> str:
    """An error in one line. What is not for users to mend is told with its type and stage, and what came up in their
    own code with its line."""
    text = " ".join(str(error).split())
    if isinstance(error, (DescentError, InterruptedUnsaved)):
        return text
    notes = getattr(error, "__notes__", ())
    where = "".join(f"{note.removeprefix(IN_STAGE)}: " for note in notes if note.startswith(IN_STAGE))
    own = [note.removeprefix(IN_OWN_CODE) for note in notes if note.startswith(IN_OWN_CODE)]
    return f"{where}{own[-1] if own else 'internal error'}: {type(error).__name__}: {text or 'no message'}"


def exit_code(error: BaseException) -> int:
    """The process exit code that an error stands for."""
    return error.exit_code if isinstance(error, (DescentError, InterruptedUnsaved)) else 70


def os_errno(error: BaseException) -> int | None:
    """The operating system's number of an error, also where a library in Rust or Python kept it in words only."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    said = OS_ERROR.search(str(error)) if isinstance(error, Exception) else None
    return int(said.group(1)) if said else None


def is_disk_full(error: BaseException) -> bool:
    """Whether writing failed for want of space."""
    return os_errno(error) in (errno.ENOSPC, errno.EDQUOT)


def disk_full(path: Path, needed: str) -> StorageError:
    """The error for want of space: `needed` says how much as far as it is known, `path` where."""
    free = shutil.disk_usage(next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())).free
    return StorageError(
        f"{path}: the disk is full: {needed} needed, {free:,} bytes are free; free some space and run again to go on"
    )


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn what the operating system says about files, in `folder` where it names none, into one line."""
    try:
        yield
    except ConnectionError:  # of pipes and the network
        raise
    except Exception as error:
        number = None if isinstance(error, DescentError) else os_errno(error)
        if number is None:
            raise
        where = Path(str(getattr(error, "filename", None) or folder))
        if is_disk_full(error):
            raise disk_full(where, "more space is") from error
        raise StorageError(f"{where}: {os.strerror(number)}; mend it and run again to go on") from error
