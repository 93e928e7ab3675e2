"""Work on every shard of a folder, in processes, with results that do not depend on how many there are."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from pipeline.errors import STOP_SIGNALS, StorageError, note_own_code, panics_as_errors
from pipeline.progress import Progress

WORKER_BYTES = 8_000_000
"""Text for which starting one more process pays: about a second of work."""


@dataclass
class Tally:
    """Counts that workers return and that add up: each is a Counter of names."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, group: str, name: str, amount: int = 1) -> None:
        """Count `amount` more under a group and a name."""
        self.counts.setdefault(group, Counter())[name] += amount

    def add_documents(self, group: str, name: str, num_bytes: int, num_documents: int = 1) -> None:
        """Count documents and their size under a group and a name."""
        self.add(f"{group}_documents", name, num_documents)
        self.add(f"{group}_bytes", name, num_bytes)

    def add_in(self, num_bytes: int, num_documents: int = 1) -> None:
        """Count documents that a stage was given."""
        self.add("total", "documents_in", num_documents)
        self.add("total", "bytes_in", num_bytes)

    def add_out(self, num_bytes: int, num_documents: int) -> None:
        """Count documents that a stage wrote."""
        self.add("total", "documents_out", num_documents)
        self.add("total", "bytes_out", num_bytes)

    def merge(self, other: Tally) -> None:
        """Add another tally's counts to this one's."""
        for group, names in other.counts.items():
            self.counts.setdefault(group, Counter()).update(names)

    def of(self, group: str) -> dict[str, int]:
        """A group's counts in the order of their names."""
        return dict(sorted(self.counts.get(group, Counter()).items()))

    def documents_of(self, group: str) -> dict[str, dict[str, int]]:
        """A group's documents and their sizes by name."""
        sizes = self.of(f"{group}_bytes")
        return {name: {"documents": n, "bytes": sizes[name]} for name, n in self.of(f"{group}_documents").items()}


def map_shards(
    work: Callable[..., Tally],
    tasks: list[tuple[Any, ...]],
    num_bytes: int,
    num_workers: int,
    progress: Progress,
    label: str,
) -> Tally:
    """Call `work(*task)` for each task, in up to `num_workers` processes, and add up the tallies.

    `num_bytes` is the text that the tasks have together. Where one process is enough for it, everything happens in
    this one: starting others would cost more than it saves. An error in a worker is raised here as it is.
    """
    total = Tally()
    num_processes = min(num_workers, len(tasks), num_bytes // WORKER_BYTES)
    with progress.bar(label, total=len(tasks), unit="shards") as task:
        for tally in _results(work, tasks, num_processes):
            total.merge(tally)
            task.update()
    return total


def _results(work: Callable[..., Tally], tasks: list[tuple[Any, ...]], num_processes: int) -> Iterator[Tally]:
    if num_processes <= 1:
        yield from (work(*task) for task in tasks)
        return
    # Forking a process that has threads (pyarrow starts some) can deadlock; a server process has none.
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(num_processes, mp_context=context, initializer=_prepare_worker) as pool:
        futures = [pool.submit(_in_worker, work, task) for task in tasks]
        try:
            for future in futures:
                yield future.result()
        except BrokenProcessPool:
            raise StorageError(
                f"a worker process was killed, probably for lack of memory; set run.num_workers below {num_processes}"
            ) from None
        except BaseException:
            # What they make is thrown away; waiting for it could outlast the patience of whoever stops the run.
            for process in list(pool._processes.values()):
                process.kill()
            raise
        finally:
            for future in futures:
                future.cancel()


def _in_worker(work: Callable[..., Tally], task: tuple[Any, ...]) -> Tally:
    try:
        with panics_as_errors():
            return work(*task)
    except Exception as error:
        note_own_code(error)
        raise


def join_files(paths: list[Path], target: Path) -> None:
    """Write the files that workers left, one after the other, into one."""
    with target.open("wb") as joined:
        for path in paths:
            with path.open("rb") as part:
                shutil.copyfileobj(part, joined)


def _prepare_worker() -> None:
    """Ignore signals, which the parent handles. Exit when the parent exits, even if it was killed."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
