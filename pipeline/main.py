"""Where a process starts. Light, so that an interrupt in its first second finds somebody who handles it."""

from __future__ import annotations

import os
import signal
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
    from pipeline import cli

    try:
        cli.main(arguments)
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # All is done and told; libraries take a moment to unload.


def _leave(number: int, frame: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, b"descent: interrupted before anything was changed\n")
    os._exit(128 + number)
