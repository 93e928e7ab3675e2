"""What is to become of each document of a shard, as a number a document on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.array_files import write_array
from pipeline.corpus.curate_config import DropReason


class Verdicts:
    """The reason for which each document of a shard is dropped: a number into a table of reasons, 0 where it stays."""

    def __init__(self, codes: NDArray[np.uint32] | None = None, reasons: Iterable[DropReason] = ()) -> None:
        self.codes = np.empty(0, dtype=np.uint32) if codes is None else codes
        self._numbers = {reason: number for number, reason in enumerate(reasons, 1)}

    @classmethod
    def read(cls, base: Path) -> Verdicts:
        """What `write` left at a path without suffix."""
        reasons: list[Any] = json.loads(base.with_suffix(".reasons").read_text())
        return cls(np.fromfile(base.with_suffix(".codes"), np.uint32), [(kind, reason) for kind, reason in reasons])

    def write(self, base: Path) -> None:
        """Write numbers and reasons to files beside each other, at a path without suffix."""
        write_array(base.with_suffix(".codes"), self.codes)
        base.with_suffix(".reasons").write_text(json.dumps(list(self._numbers)))

    def add(self, reasons: Iterable[DropReason | None]) -> None:
        """Append the verdict on the next documents."""
        codes = [0 if reason is None else self._number(reason) for reason in reasons]
        self.codes = np.append(self.codes, np.array(codes, dtype=np.uint32))

    def drop(self, places: Any, reason: DropReason) -> None:
        """Give documents, by position, another verdict."""
        self.codes[places] = self._number(reason)

    def reasons_of(self, codes: NDArray[np.uint32]) -> list[DropReason]:
        """The reasons of those that are dropped."""
        reasons = list(self._numbers)
        return [reasons[code - 1] for code in codes[codes > 0].tolist()]

    def _number(self, reason: DropReason) -> int:
        return self._numbers.setdefault(reason, len(self._numbers) + 1)
