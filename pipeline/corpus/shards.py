"""Work on every shard of a folder, in processes, with results that do not depend on how many there are."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pipeline.executors.jobs import RESULT, Job, Session
from pipeline.progress import Progress


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

    def add_out(self, num_bytes: int, num_documents: int = 1) -> None:
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

    @classmethod
    def total(cls, results: Iterable[Mapping[str, Mapping[str, int]]]) -> Self:
        """The sum of what tasks have given as their tally's counts."""
        total = cls()
        for counts in results:
            total.merge(cls({group: Counter(names) for group, names in counts.items()}))
        return total


def map_shards(session: Session, job: Job, progress: Progress) -> tuple[list[Path], Tally]:
    """Carry out a job whose work gives a tally's counts. Gives the folders that its tasks filled, in the order of the
    tasks, and the tallies added up. An error in a process is raised here as it is."""
    done = list(session.run(job, progress))
    return [folder for folder, _ in done], Tally.total(counts for _, counts in done)


def gather_files(folders: list[Path], target: Path) -> None:
    """Move what tasks made into one folder, each file to the same place below it."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != RESULT:
                place = target / path.relative_to(folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.rename(path, place)


def join_files(paths: list[Path], target: Path) -> None:
    """Write the files that workers left, one after the other, into one."""
    with target.open("wb") as joined:
        for path in paths:
            with path.open("rb") as part:
                shutil.copyfileobj(part, joined)
