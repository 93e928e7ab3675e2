"""Around every verb: errors become one line and an exit code, signals unwind like errors."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from pipeline.errors import (
    ConfigError,
    DescentError,
    InterruptedUnsaved,
    MissingInputError,
    StorageError,
    exit_code,
    storage_errors,
)
from pipeline.launches.launch import speaks
from pipeline.quiet import quiet_libraries
from pipeline.terminal import printable

ASK_AGAIN_SECONDS = 2.0
SECONDS_TO_TELL = 2.0
TOLD_ONCE = (ConfigError, MissingInputError, InterruptedUnsaved)


def guarded(work: Callable[[], None], debug: bool) -> None:
    """Run a verb; print what a user can mend as one line and leave with its exit code."""
    quiet_libraries()
    if not debug:
        # A library's thread keeps its error for the main one, such as TensorBoard's writer: it is told there.
        threading.excepthook = lambda arguments: None
    try:
        with _signals_as_errors(), storage_errors(Path.cwd()):
            work()
            _finish_output()
    except (DescentError, InterruptedUnsaved) as error:
        if debug:
            traceback.print_exc()
        # What all processes of a launch find alike is told once on each machine, what process 0 tells by it alone.
        is_told_elsewhere = isinstance(error, TOLD_ONCE) and not speaks(os.environ)
        if is_told_elsewhere:
            # The launcher stops the others when one ends: not before it is told.
            time.sleep(SECONDS_TO_TELL)
        elif str(error):
            for line in str(error).split("\n"):
                complain(line)
        raise typer.Exit(error.exit_code) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise typer.Exit(74) from None
    except Exception as error:
        if debug:
            traceback.print_exc()
        text = " ".join(str(error).split()) or "no message"
        complain(f"internal error: {type(error).__name__}: {text} (--debug shows where)")
        raise typer.Exit(exit_code(error)) from None


def _finish_output() -> None:
    """Else Python would notice at its end that output cannot be written, and complain in its own way."""
    try:
        print(end="", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what Python still has to write
        if isinstance(error, BrokenPipeError):
            raise
        raise StorageError(f"standard output: {error.strerror}; mend it and run again") from None


def complain(line: str) -> None:
    """Print a line for people on standard error."""
    print(f"descent: {printable(line)}", file=sys.stderr)


@contextmanager
def _signals_as_errors() -> Iterator[None]:
    """Let SIGINT and SIGTERM unwind the stack like an error, so that temporary folders are removed.

    One that the caller had us ignore, as a shell does for SIGINT of work in the background, stays ignored.
    """

    received: list[int] = []

    def interrupt(signum: int, frame: Any) -> None:
        received.append(signum)
        # Python drops what is raised inside a finalizer; ask again until the stack has unwound.
        signal.setitimer(signal.ITIMER_REAL, ASK_AGAIN_SECONDS)
        raise InterruptedUnsaved(received[0])

    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in (*numbers, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
