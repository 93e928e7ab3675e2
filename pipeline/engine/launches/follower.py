"""Any process but 0: waits, light and silent, for what process 0 announces."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

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
from pipeline.errors import ConfigError, InterruptedUnsaved, ProcessError, exit_code, in_one_line

SILENCE_SECONDS = 60.0
"""Without a heartbeat for so long, a process 0 on another machine is taken for dead."""

START_SECONDS = 120.0
"""How long to wait for the first word of process 0, which may start later."""


class Follower(Member):
    """A process other than 0. It takes part in what process 0 announces while the block runs."""

    def __init__(self, launch: Launch, root: Path, config_digest: str) -> None:
        super().__init__(launch, root, config_digest)
        self._name = f"process {launch.index}"
        self._beat = 0
        self._heard = time.monotonic()
        self._first: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        self._hold_lock()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with suppress(InterruptedUnsaved, OSError):
            # Process 0 may come yet if it was never heard: it would wait for this one.
            if error is None or (self._first is not None and self._first_has_ended()):
                self._path(self.launch.index, "json").unlink(missing_ok=True)
                self._let_first_go()
            else:
                self._publish(**last_words(error))
        self._lock.release()

    def assignments(self) -> Iterator[StageAssignment]:
        """The stages to take part in, as process 0 announces them. Ends when process 0 is done.

        Raises ProcessError with the exit code of process 0 when that failed, is gone, or is not heard of.
        """
        turn = 0
        while (word := self._listen()) is None or word["state"] != "done":
            if word is not None and word["state"] == "stage" and word["turn"] > turn:
                turn = word["turn"]
                yield StageAssignment(word["stage"], word["key"], word["inputs"], word["chosen"])
            time.sleep(POLL_SECONDS)

    def wait_for(self, paths: Sequence[Path]) -> None:
        """Wait until files that process 0 wrote can be seen here. Raises ProcessError when they do not come."""
        deadline = time.monotonic() + SILENCE_SECONDS
        while missing := [path for path in paths if not path.exists()]:
            if time.monotonic() > deadline:
                raise ProcessError(f"{self._name}: {missing[0]} cannot be seen from here; all must share run.workspace")
            time.sleep(POLL_SECONDS)

    @contextmanager
    def taking_part(self, go_on: GoOn) -> Iterator[None]:
        """Tell process 0 when the block fails. End this process when it is stuck because process 0 failed.

        The message about a lost process 0 ends with `go_on()`.
        """
        self._go_on = go_on
        finished = threading.Event()
        threading.Thread(target=self._watch, args=(finished,), daemon=True).start()
        try:
            yield
        except BaseException as error:
            self._publish(**last_words(error))
            # The launcher stops process 0 when this one ends: let it write how the run ended before.
            deadline = time.monotonic() + 2 * END_SECONDS
            while not self._first_has_ended() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
            is_told = (word := self._hear()) is None or word["state"] == "failed"
            raise ProcessError("" if is_told else f"{self._name}: {in_one_line(error)}", exit_code(error)) from error
        finally:
            finished.set()

    def _hear(self) -> dict[str, Any] | None:
        """The announcement of this launch's process 0, when there is one."""
        word = self._read(0)
        is_meant = word is not None and word.get("seen", {}).get(str(self.launch.index)) == self._state["token"]
        return word if is_meant else None

    def _listen(self) -> dict[str, Any] | None:
        """The announcement, once it is sure that process 0 lives or is done."""
        if self.launch.is_orphaned():
            raise ProcessError(f"{self._name}: the launcher is gone")
        if not self._path(self.launch.index, "json").exists():
            self._publish()
        word = self._hear()
        if word is not None:
            self._first = word
            if word["beat"] != self._beat:
                self._beat, self._heard = word["beat"], time.monotonic()
            if word["state"] == "failed":
                raise ProcessError("", word["exit_code"])
            if word["config"] != self._state["config"]:
                problem = f"{self._name} has another configuration than process 0; give all of them the same"
                raise ProcessError(problem, ConfigError.exit_code)
        silence = time.monotonic() - self._heard
        if self._first is None and silence > START_SECONDS:
            raise ProcessError(
                f"{self._name}: no word from process 0 in {silence:.0f} s; all must share run.workspace, which is "
                f"{self._folder.parent.parent.absolute()} here"
            )
        if self._first is not None and (self._is_dead(0, self._first) or silence > SILENCE_SECONDS):
            last = self._hear() or self._first  # it may have ended well since
            if last["state"] not in ("failed", "done"):
                raise self._loss(last)
        return word

    def _loss(self, word: Mapping[str, Any]) -> ProcessError:
        return ProcessError(
            f"{self._name}: process 0 is gone ({word['process']}): killed, perhaps for lack of memory; {self._go_on()}"
        )

    def _watch(self, finished: threading.Event) -> None:
        since = None
        while not finished.wait(BEAT_SECONDS):
            since = (since or time.monotonic()) if self._first_has_ended() else None
            if since is not None and time.monotonic() - since > END_SECONDS:
                word = self._hear()
                if word is not None and word["state"] != "failed":
                    end_at_once(self._loss(word))
                end_at_once(ProcessError("", word["exit_code"] if word is not None else ProcessError.exit_code))

    def _first_has_ended(self) -> bool:
        word = self._hear()
        return word is None or word["state"] == "failed" or self._is_dead(0, word)

    def _let_first_go(self) -> None:
        """Let process 0 end before this one, so that launchers name it as the one that failed."""
        first = self._first
        if first is None or self.launch.machine is None or first["machine"] != self.launch.machine:
            return
        deadline = time.monotonic() + END_SECONDS
        with suppress(ProcessLookupError, PermissionError):
            while time.monotonic() < deadline:
                os.kill(first["pid"], 0)
                time.sleep(POLL_SECONDS)
