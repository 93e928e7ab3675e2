"""Work on every shard of a folder, in processes, with results that do not depend on how many there are."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import StorageError
from pipeline.progress import Progress


@dataclass
class Tally:
    """Counts that workers return and that add up: each is a Counter of names."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, group: str, name: str, amount: int = 1) -> None:
        """Count `amount` more under a group and a name."""
        self.counts.setdefault(group, Counter())[name] += amount

    def merge(self, other: Tally) -> None:
        """Add another tally's counts to this one's."""
        for group, names in other.counts.items():
            self.counts.setdefault(group, Counter()).update(names)

    def of(self, group: str) -> dict[str, int]:
        """A group's counts in the order of their names."""
        return dict(sorted(self.counts.get(group, Counter()).items()))


def map_shards(
    work: Callable[..., Tally], tasks: list[tuple[Any, ...]], num_workers: int, progress: Progress, label: str
) -> Tally:
    """Call `work(*task)` for each task, in up to `num_workers` processes, and add up the tallies.

    With one task or one worker everything happens in this process: starting others costs more than it saves.
    """
    total = Tally()
    with progress.task(label, total=len(tasks), unit="shards") as task:
        for tally in _results(work, tasks, min(num_workers, len(tasks))):
            total.merge(tally)
            task.update()
    return total


def _results(work: Callable[..., Tally], tasks: list[tuple[Any, ...]], num_workers: int) -> Iterator[Tally]:
    if num_workers <= 1:
        yield from (work(*task) for task in tasks)
        return
    # Forking a process that has threads (pyarrow starts some) can deadlock; a server process has none.
    with ProcessPoolExecutor(num_workers, mp_context=multiprocessing.get_context("forkserver")) as pool:
        futures = [pool.submit(work, *task) for task in tasks]
        try:
            for future in futures:
                yield future.result()
        except BrokenProcessPool:
            raise StorageError(
                "a worker process was killed, probably for lack of memory; lower run.num_workers"
            ) from None
        finally:
            for future in futures:
                future.cancel()


def shard_outputs(paths: list[Path], folder: Path) -> list[tuple[Path, Path]]:
    """Each input shard with the output shard of the same name."""
    return [(path, folder / path.name) for path in paths]
