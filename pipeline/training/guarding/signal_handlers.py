"""Signals during training: the first asks for a checkpoint, the second ends the process at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from pipeline.errors import STOP_SIGNALS

SAME_SIGNAL_SECONDS = 2.0
"""A launcher passes on what the terminal sent to its children as well: within this time it is one and the same."""


class Interrupts:
    """While entered, notes SIGTERM, SIGINT and SIGHUP in `signal` instead of stopping; 0 while there was none.

    A second one ends the process at once, unless it comes with a SIGHUP: when a terminal closes, kernel, shell and
    session each say so. Outside the main thread, where Python cannot handle signals, nothing is changed; an ignored
    signal stays ignored.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.signal = 0
        self._say = say
        self._noted = 0.0
        self._tolerance = SAME_SIGNAL_SECONDS if "LOCAL_RANK" in os.environ else 0.0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            heeded = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._previous = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP and self.signal:
            return
        if self.signal in (0, signal.SIGHUP):
            self.signal, self._noted = number, time.monotonic()
            self._say(
                f"{signal.Signals(number).name}: saving a checkpoint after this step; once more stops at once, unsaved"
            )
        elif time.monotonic() - self._noted >= self._tolerance:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
