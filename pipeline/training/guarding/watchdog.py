"""Ends a training that hangs, with the stacks of its threads.

A hang is silent by nature: one process waits for data or for a lock, and all the others wait for it inside a collective
until somebody looks. The stacks of all processes say which of them it was, and where.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from torch import nn

from pipeline.atomic import remove
from pipeline.errors import DescentError

FOLDER = "hang"
ATTEMPTS = 20
POLLS, LONGEST_POLL_SECONDS = 20, 10.0
"""How often the watch looks within its time limit, and how long it looks away at most."""

GRACE_SECONDS = 10.0
"""Time to wait after writing the stacks. Other processes hit their limit moments later and must write theirs before the
launcher kills them."""


class Watchdog:
    """Ends a process that hangs. While entered, a thread watches whether passes through `model` begin, in training or
    in validation. It runs while a collective waits, too.

    Without a pass for `timeout_seconds` it writes the stacks of all threads to standard error and to
    `<work>/hang/process-<index>.txt`, gives `fail` the error, and ends the process with code 70. Where the thread
    cannot run, since foreign code holds Python's lock, `faulthandler` writes the stacks and ends the process with code
    1. None watches nothing.
    """

    def __init__(
        self,
        timeout_seconds: float | None,
        model: nn.Module,
        work: Path,
        rank: int,
        say: Callable[[str], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._timeout = timeout_seconds
        self._model = model
        self._path = work / FOLDER / f"process-{rank}.txt"
        self._rank = rank
        self._say, self._fail = say, fail
        self._is_resting = False
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def _beat(self, *_: object) -> None:
        self._last = time.monotonic()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Take nothing for a hang: process 0 may work alone in the block, and others wait for it."""
        self._is_resting = True
        try:
            yield
        finally:
            self._beat()
            self._is_resting = False

    def __enter__(self) -> Self:
        if self._timeout is not None:
            self._file = self._open()
            self._beat()
            self._hook = self._model.register_forward_pre_hook(self._beat)
            self._thread = threading.Thread(target=self._run, args=(self._timeout,), name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._hook.remove()
            self._file.close()
            with suppress(OSError):  # other processes have theirs there
                remove(self._path)
                self._path.parent.rmdir()

    def _open(self) -> TextIO:
        """Open the file. Meanwhile other processes make its folder, and remove it when it is empty. What stands in the
        way of file or folder is removed."""
        for attempt in range(ATTEMPTS):
            with suppress(FileExistsError, FileNotFoundError, IsADirectoryError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                return self._path.open("w")
            if attempt:
                with suppress(OSError):
                    self._path.parent.unlink()  # removes no folder
                with suppress(OSError):
                    remove(self._path)
        return self._path.open("w")

    def _run(self, timeout: float) -> None:
        try:
            while not self._over.wait(min(timeout / POLLS, LONGEST_POLL_SECONDS)):
                # Pushed back for as long as this thread runs.
                faulthandler.dump_traceback_later(2 * timeout, exit=True, file=self._file)
                if time.monotonic() - self._last > timeout and not self._is_resting:
                    self._end(timeout)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _end(self, timeout: float) -> None:
        for stream in (self._file, sys.__stderr__):
            with suppress(OSError):  # a full disk or a closed terminal: the process ends all the same
                if stream is not None:
                    print(f"process {self._rank} hangs; the stacks of its threads:", file=stream, flush=True)
                    faulthandler.dump_traceback(file=stream)
        with suppress(OSError):
            os.fsync(self._file.fileno())
        error = DescentError(
            f"process {self._rank} hangs: no forward pass for {timeout:,.0f} s; its stacks are in "
            f"{self._path}; run again to go on from the last checkpoint, or raise train.hang_timeout_seconds"
        )
        self._say(str(error))
        self._fail(error)  # should the disk be what hangs, faulthandler ends the process
        # A step that ends after all does not count any more: the others may be gone.
        time.sleep(min(GRACE_SECONDS, timeout))
        os._exit(error.exit_code)
