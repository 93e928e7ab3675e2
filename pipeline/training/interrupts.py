"""Signals during training: the first asks for a checkpoint, the second ends the process at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupts:
    """While entered, notes SIGTERM and SIGINT in `requested` instead of stopping.

    After the first, both signals have their default effect again, so that a second one ends the process.
    Outside the main thread, where Python cannot handle signals, nothing is changed; an ignored signal stays ignored.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.requested: str | None = None
        self._say = say
        self._abandoning = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._previous = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    @contextmanager
    def abandoning(self) -> Iterator[None]:
        """Work that may be left in the middle, because it changes nothing: a signal ends the block at once."""
        self._abandoning = True
        try:
            yield
            self._abandoning = False
        except _Abandoned:
            pass
        finally:
            self._abandoning = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number).name
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self._say(f"{self.requested}: saving a checkpoint after this step; once more stops at once, unsaved")
        if self._abandoning:
            raise _Abandoned


class _Abandoned(BaseException):
    """Raised by a signal inside `abandoning`; derives from BaseException so that nothing else catches it."""
