"""Process 0: announces the stages that all take part in, and how the launch ends."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Self

from filelock import Timeout

from pipeline.atomic import remove
from pipeline.engine.launches.launch import Launch, StageAssignment
from pipeline.engine.launches.member import (
    BEAT_SECONDS,
    END_SECONDS,
    POLL_SECONDS,
    GoOn,
    Member,
    end_at_once,
    last_words,
)
from pipeline.errors import DescentError, InterruptedRun, InterruptedUnsaved, LostPeerError, ProcessError

REPORT_SECONDS = 3.0
"""How long after a connection broke the report may come of the process at its other end."""

COMING_SECONDS = 300.0
"""How long process 0 waits, once there is something to do together, for the first word of each other process."""

Fail = Callable[[BaseException], None]


class Alone:
    """The only process of a launch has nobody to tell."""

    @contextmanager
    def together(self, assignment: StageAssignment, fail: Fail, go_on: GoOn) -> Iterator[None]:
        """Carry out a stage."""
        yield


class Leader(Member):
    """Process 0, as long as the block runs; the others learn how it ended."""

    def __init__(self, launch: Launch, root: Path, config_digest: str) -> None:
        super().__init__(launch, root, config_digest)
        self._turn = 0
        self._seen: dict[str, str] = {}
        self._is_in_stage = False
        self._fail: Fail | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        try:
            self._hold_lock(END_SECONDS)
        except Timeout:
            raise ProcessError(
                f"process 0 of an earlier launch with this address and port still runs ({self._folder}); end it first"
            ) from None
        for path in self._folder.glob("process-*.json"):
            remove(path)
        self._publish(turn=0, seen={})
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with suppress(InterruptedUnsaved, OSError):  # a signal now ends the waiting; what happened before is told
            self._ended.set()
            self._thread.join()
            self._publish(**({"state": "done"} if error is None else last_words(error)))
            # Those that are inside a stage may be stuck for want of this one; they notice when it has gone.
            deadline = time.monotonic() + (0 if self._is_in_stage else END_SECONDS)
            while not (all_have_read := self._all_have_read()) and time.monotonic() < deadline:
                self._greet()
                time.sleep(POLL_SECONDS)
            if all_have_read:
                shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.release()

    @contextmanager
    def together(self, assignment: StageAssignment, fail: Fail, go_on: GoOn) -> Iterator[None]:
        """Have the other processes carry out a stage as well while the block does, once all have come.

        Raises ProcessError when another process failed and this one stopped because of it. If this one is stuck waiting
        for it, `fail` is called with the error and the process ends. The message about a lost process ends with
        `go_on()`.
        """
        self._go_on = go_on
        self._await_others()
        self._turn += 1
        self._publish(state="stage", turn=self._turn, **asdict(assignment))
        self._is_in_stage, self._fail = True, fail
        try:
            yield
        except BaseException as error:
            if isinstance(error, DescentError) and not isinstance(error, LostPeerError):
                raise
            failure = self._await_failure(REPORT_SECONDS if isinstance(error, Exception) else 0.0)
            if failure is not None:
                raise failure from error
            if isinstance(error, LostPeerError):
                raise LostPeerError(f"{error}; {go_on()}") from error
            raise
        finally:
            self._fail = None
        self._is_in_stage = False
        self._publish(state="working")

    def _await_others(self) -> None:
        """Wait until all others have come. A signal ends the waiting here; it could not where the process group is
        made.

        Raises ProcessError when one of them failed, or does not come.
        """
        deadline = time.monotonic() + COMING_SECONDS
        while len(self._seen) < self.launch.count - 1:
            self._greet()
            if (failure := self._failure()) is not None:
                raise failure
            if time.monotonic() > deadline:
                raise ProcessError(
                    f"{len(self._seen) + 1} of {self.launch.count} processes came in {COMING_SECONDS:.0f} s; all must "
                    f"share run.workspace, which is {self._folder.parent.parent.absolute()} here"
                )
            time.sleep(POLL_SECONDS)

    def _beat(self) -> None:
        """Send heartbeats and greet processes that came. End this process where it cannot end itself."""
        failing_since, was_orphaned = None, False
        while not self._ended.wait(BEAT_SECONDS):
            with suppress(OSError):
                os.utime(self._path(0, "json"))
                self._greet()
            if self.launch.is_orphaned() and not was_orphaned:
                was_orphaned = True
                os.kill(os.getpid(), signal.SIGTERM)
            fail = self._fail
            failure = self._failure() if fail is not None else None
            if fail is None or failure is None:
                failing_since = None
                continue
            failing_since = failing_since or time.monotonic()
            if time.monotonic() - failing_since > END_SECONDS:
                fail(failure)
                self._publish(**last_words(failure))
                end_at_once(failure)

    def _greet(self) -> None:
        if len(self._seen) == self.launch.count - 1:
            return
        others = {str(i): other["token"] for i in range(1, self.launch.count) if (other := self._read(i)) is not None}
        if not others.items() <= self._seen.items():
            self._seen = {**self._seen, **others}  # another thread may be writing the earlier one out
            self._publish(seen=self._seen)

    def _all_have_read(self) -> bool:
        others = [self._read(i) for i in range(1, self.launch.count)]
        return len(self._seen) == len(others) and all(one is None or one["state"] == "failed" for one in others)

    def _await_failure(self, patience_seconds: float) -> ProcessError | None:
        deadline = time.monotonic() + patience_seconds
        while (failure := self._failure()) is None and time.monotonic() < deadline:
            with suppress(InterruptedUnsaved):  # by the launcher, because the other process ended
                time.sleep(POLL_SECONDS)
        return failure

    def _failure(self) -> ProcessError | None:
        """How another process failed, if one did. One that was interrupted and saved does not count: all are
        interrupted together, and process 0 saves meanwhile."""
        for i in range(1, self.launch.count):
            other = self._read(i)
            if other is not None and other["state"] == "failed" and other["exit_code"] != InterruptedRun.exit_code:
                return ProcessError(f"process {i}: {other['message']}", other["exit_code"])
            if other is not None and self._is_dead(i, other):
                why = "killed, perhaps for lack of memory"
                return ProcessError(f"process {i} is gone ({other['process']}): {why}; {self._go_on()}")
        return None
