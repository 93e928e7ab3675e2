"""Where a process starts. Light, so that an interrupt in its first second finds somebody who handles it."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress
from types import FrameType


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `descent` command and of scripts/run_pipeline.py."""
    # While a verb works it handles signals itself; this is for the imports before and the end after.
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, _leave)
    from pipeline.console.standard_streams import make_lenient

    make_lenient()
    exit_codes: list[int] = []
    if os.environ.get("WORLD_SIZE", "1") != "1":
        # Registered before all others, so the last to be called.
        atexit.register(_skip_finalization, exit_codes)
    from pipeline import cli

    try:
        cli.main(arguments)
    except SystemExit as end:
        if isinstance(end.code, int):
            exit_codes.append(end.code)
        raise
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # All is done and told; libraries take a moment to unload.


def _skip_finalization(exit_codes: list[int]) -> None:
    """End the process before Python takes itself apart. A thread of gloo that lets go of a collective's tensors takes
    Python's lock for it; while Python finalizes that ends the thread inside C++, which aborts the process."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    if exit_codes:
        os._exit(exit_codes[0])


def _leave(number: int, frame: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, b"descent: interrupted before anything was changed\n")
    os._exit(128 + number)
