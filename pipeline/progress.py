"""Progress of long work: a bar with rate and time left on a terminal, a line now and then in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from tqdm import tqdm

from pipeline.console.terminal_text import printable

LOG_INTERVAL_SECONDS = 10.0
LEAST_UPDATES = 3
"""Updates after the first from which a rate is told."""

LEAST_SECONDS = 2.0
"""Work that has to be seen before the time left is told."""

BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt}{postfix}"
COUNT_FORMAT = "{desc}: {n_fmt}{unit} [{elapsed}]{postfix}"
BAR_COLUMNS = 64
"""Of a terminal's columns those that a bar, its counts, rate and time left take; a note has the others."""
DEFAULT_COLUMNS = 80


class Rate:
    """Units a second, as an average in which later ones weigh more. The first update is left out: compilation, the
    first batch and cold caches come before it."""

    def __init__(self) -> None:
        self._amount = self._seconds = self._elapsed = 0.0
        self._last: float | None = None
        self._num_updates = 0

    def update(self, amount: float) -> None:
        """Count what was done since the update before."""
        now = time.monotonic()
        if self._last is not None:
            earlier, self._elapsed = self._elapsed, self._elapsed + now - self._last
            kept = earlier / self._elapsed if self._elapsed else 1.0
            self._amount = self._amount * kept + amount
            self._seconds = self._seconds * kept + now - self._last
            self._num_updates += 1
        self._last = now

    @property
    def elapsed(self) -> float:
        """Seconds from the first update to the last."""
        return self._elapsed

    @property
    def per_second(self) -> float | None:
        """None while too little was seen to tell."""
        is_known = self._num_updates >= LEAST_UPDATES and self._amount > 0 and self._seconds > 0
        return self._amount / self._seconds if is_known else None


class ProgressBar:
    """One piece of work being counted. `update(n, note)` advances it; units are the task's own."""

    def __init__(self, label: str, total: float | None, unit: str, stream: TextIO) -> None:
        self._label, self._total, self._unit, self._stream = label, total, unit, stream
        self._done = 0.0
        self._rate = Rate()
        self._logged = time.monotonic()
        self._bar = (
            tqdm(
                total=total,
                unit=unit if unit == "B" else f" {unit}",
                unit_scale=unit == "B",
                desc=label,
                file=stream,
                dynamic_ncols=True,
                leave=False,
                bar_format=BAR_FORMAT if total else COUNT_FORMAT,
            )
            if stream.isatty()
            else None
        )

    def update(self, amount: float = 1, note: str = "") -> None:
        """Advance by `amount` units. `note` is shown beside the bar as far as it fits: parts with commas between, the
        most important first."""
        self._done += amount
        self._rate.update(amount)
        if self._bar is not None:
            note = fitting(note, _columns(self._stream) - BAR_COLUMNS)
            self._bar.set_postfix_str(", ".join(filter(None, [*self._pace(), note])), refresh=False)
            self._bar.update(amount)
        elif time.monotonic() - self._logged >= LOG_INTERVAL_SECONDS:
            self._logged = time.monotonic()
            print(self._line(note), file=self._stream, flush=True)

    def start_at(self, amount: float) -> None:
        """Count `amount` units as done before this process began."""
        self._done = amount
        if self._bar is not None:
            self._bar.initial = amount
            self._bar.n = amount

    def _line(self, note: str) -> str:
        done = _scaled(self._done, self._unit)
        if self._total:
            done = f"{done.removesuffix(f' {self._unit}')} of {_scaled(self._total, self._unit)}"
            done += f" ({self._done / self._total:.0%})"
        return f"{self._label}: {', '.join([done, *self._pace()])}  {note}".rstrip()

    def _pace(self) -> list[str]:
        """Rate and time left in words, as far as they are known."""
        rate = self._rate.per_second
        if rate is None:
            return []
        pace = [f"{_scaled(rate, self._unit)}/s"]
        if self._total and self._rate.elapsed >= LEAST_SECONDS:
            pace.append(f"{short_duration((self._total - self._done) / rate)} left")
        return pace

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self._bar is not None:
            self._bar.close()


class Progress:
    """Where a stage reports progress: standard error, unless another stream is given."""

    def __init__(self, stage: str, stream: TextIO | None = None) -> None:
        self._stage = stage
        self._stream = stream if stream is not None else sys.stderr

    @contextmanager
    def bar(self, label: str, total: float | None = None, unit: str = "it") -> Iterator[ProgressBar]:
        """Count a piece of work: `with progress.bar("reading", total=size, unit="B") as bar: bar.update(n)`."""
        task = ProgressBar(f"{self._stage}: {label}", total, unit, self._stream)
        try:
            yield task
        finally:
            task.close()

    def say(self, message: str) -> None:
        """Print one line, above any bar."""
        tqdm.write(printable(f"{self._stage}: {message}"), file=self._stream)


def fitting(note: str, columns: int) -> str:
    """As many of a note's parts as `columns` hold, and the first in any case."""
    first, *others = note.split(", ")
    for part in others:
        if len(first) + len(part) + 2 > columns:
            break
        first += f", {part}"
    return first


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or DEFAULT_COLUMNS
    except (OSError, ValueError):  # A stream without a file, or a terminal that does not tell.
        return DEFAULT_COLUMNS


def _scaled(amount: float, unit: str) -> str:
    if unit == "B":
        return f"{amount / 1e6:.1f} MB" if amount < 1e9 else f"{amount / 1e9:.2f} GB"
    return f"{amount:,.0f} {unit}" if amount >= 10 or amount == int(amount) else f"{amount:.2g} {unit}"


def short_duration(seconds: float) -> str:
    """Seconds as 40s, 3m05s or 2h03m."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
