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

from pipeline.console.log_filters import quiet_libraries
from pipeline.console.standard_streams import output_error
from pipeline.console.terminal_text import printable
from pipeline.engine.launches.launch import is_local_main_process
from pipeline.errors import (
    STOP_SIGNALS,
    ConfigError,
    DescentError,
    InterruptedUnsaved,
    MissingInputError,
    StorageError,
    exit_code,
    in_one_line,
    panics_as_errors,
    storage_errors,
)
from pipeline.machine import give_a_home

ASK_AGAIN_SECONDS = 2.0
SECONDS_TO_TELL = 2.0
TOLD_ONCE = (ConfigError, MissingInputError, InterruptedUnsaved)


def guarded(work: Callable[[], None], debug: bool) -> None:
    """Run a verb; print what a user can mend as one line and leave with its exit code."""
    quiet_libraries()
    give_a_home()
    if not debug:
        # A library's thread keeps its error for the main one, such as TensorBoard's writer: it is told there.
        threading.excepthook = lambda arguments: None
    try:
        with _signals_as_errors(), storage_errors(Path.cwd()), panics_as_errors():
            work()
    except (DescentError, InterruptedUnsaved) as error:
        if debug:
            traceback.print_exc()
        # What all processes of a launch find alike is told once on each machine, what process 0 tells by it alone.
        is_told_elsewhere = isinstance(error, TOLD_ONCE) and not is_local_main_process(os.environ)
        if is_told_elsewhere:
            # The launcher stops the others when one ends: not before it is told.
            time.sleep(SECONDS_TO_TELL)
        elif str(error):
            for line in str(error).split("\n"):
                complain(line)
        raise typer.Exit(error.exit_code) from None
    except BaseException as error:
        if debug:
            traceback.print_exc()
        complain(in_one_line(error) if debug else f"{in_one_line(error)} (--debug shows where)")
        raise typer.Exit(exit_code(error)) from None


def code_of_output() -> int:
    """0 when standard output took all that the command wrote, else the exit code for the error. Nothing is printed
    where the reader has gone, as behind `| head`."""
    error = output_error()
    if error is None:
        return 0
    if not isinstance(error, BrokenPipeError):
        complain(f"standard output: {error.strerror}: what the command says there is lost; mend it and run again")
    return StorageError.exit_code


def complain(line: str) -> None:
    """Print a line for people on standard error."""
    print(f"descent: {printable(line)}", file=sys.stderr)


@contextmanager
def _signals_as_errors() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP unwind the stack like an error, so that temporary folders are removed.

    An ignored signal stays ignored: shells ignore SIGINT for work in the background, `nohup` ignores SIGHUP.
    """

    received: list[int] = []

    def interrupt(signum: int, frame: Any) -> None:
        received.append(signum)
        # Python drops what is raised inside a finalizer; ask again until the stack has unwound.
        signal.setitimer(signal.ITIMER_REAL, ASK_AGAIN_SECONDS)
        raise InterruptedUnsaved(received[0])

    numbers = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in (*numbers, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
