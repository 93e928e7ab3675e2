"""Jobs on the shards of a corpus, and on what was shuffled of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from pipeline.corpus.shuffle import part_ranges, part_sizes
from pipeline.executors.jobs import Job, Session, Work
from pipeline.progress import Progress


@dataclass(frozen=True)
class Jobs:
    """Carries out jobs, each in a folder of its own below `scratch`."""

    session: Session
    progress: Progress
    scratch: Path

    def on_shards(
        self, work: Work, shared: Any, tasks: Sequence[Any], sizes: Sequence[int], label: str
    ) -> list[tuple[Path, Any]]:
        """The folder and the result of each task."""
        job = Job(work, shared, tasks, sizes, self.scratch / label.replace(" ", "-"), label)
        return list(self.session.run(job, self.progress))

    def on_parts(
        self, work: Work, shared: Any, shuffled: Sequence[Path], dtype: npt.DTypeLike, label: str
    ) -> list[tuple[Path, Any]]:
        """The same of tasks on all parts of what was shuffled."""
        parts = part_ranges(shuffled, dtype)
        return self.on_shards(work, shared, parts, part_sizes(shuffled, dtype, parts), label)
