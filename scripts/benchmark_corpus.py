"""How fast the corpus stages are: megabytes of text a second of each, and the most memory that the processes had.

    .venv/bin/python scripts/benchmark_corpus.py --megabytes 100 --workers 2

The text is paragraphs of Python's documentation with a tenth of their words changed, the same for each run; 7 % of the
documents have characters that are not ASCII. Figures of a machine that does other things at the time say little.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from pipeline.engine.stage import StageContext
from pipeline.executors.local_session import LocalSession
from pipeline.progress import Progress

MEGABYTE = 1_000_000
STAGES = ("ingest", "normalize", "curate", "augment")
CHANGED_WORDS = 0.1
NON_ASCII_DOCUMENTS = 0.07


def main(megabytes: float = 8, workers: int = 1, folder: Annotated[Path | None, typer.Option()] = None) -> None:
    """Make the text, run ingest to augment on it, and print what each took. `folder` keeps what they write."""
    with tempfile.TemporaryDirectory() as temporary, PeakMemory() as memory, LocalSession(workers) as session:
        root = folder or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        write_text(root / "text.jsonl", megabytes * MEGABYTE)
        print(f"{'stage':<10}{'seconds':>9}{'MB/s':>9}{'documents':>12}")
        for name in STAGES:
            stage = import_module(f"pipeline.stages.{name}").STAGE
            section = stage.config.model_validate(settings_of(name, root / "text.jsonl"))
            inputs = {upstream: root / upstream for upstream in stage.upstream}
            (root / name).mkdir()
            with open(os.devnull, "w") as silence:
                progress = Progress(name, silence)
                context = StageContext(section, 0, inputs, root / name, None, workers, progress, session)
                started = time.perf_counter()
                summary = stage.run(context)
                seconds = time.perf_counter() - started
            print(f"{name:<10}{seconds:>9.2f}{megabytes / seconds:>9.1f}{summary['documents_out']:>12,}")
        on_disk = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    print(f"most memory {memory.most / MEGABYTE:,.0f} MB; on disk {on_disk / MEGABYTE:,.0f} MB")


def settings_of(stage: str, text: Path) -> dict[str, Any]:
    """The settings of a stage: those of `ingest` name the text; others are at their defaults."""
    if stage != "ingest":
        return {}
    return {"sources": [{"name": "docs", "type": "jsonl", "paths": [str(text)]}]}


def write_text(path: Path, num_bytes: float) -> None:
    """Write documents of that many bytes together."""
    written = 0
    with path.open("w", encoding="utf-8") as file:
        for text in changed_paragraphs():
            if written >= num_bytes:
                return
            written += len(text.encode())
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")


def changed_paragraphs() -> Iterator[str]:
    """Paragraphs with some of their words changed, without end."""
    from pydoc_data.topics import topics

    paragraphs = [part for topic in topics.values() for part in topic.split("\n\n") if len(part) > 60]
    draw = random.Random(0)
    while True:
        words = draw.choice(paragraphs).split(" ")
        words = [f"w{draw.randrange(9999)}" if draw.random() < CHANGED_WORDS else word for word in words]
        if draw.random() < NON_ASCII_DOCUMENTS:
            words.append("caf\u00e9 \u201cquoted\u201d")
        yield " ".join(words)


class PeakMemory:
    """Looks every 50 ms how much memory this process and its children have. Pages that they share count once where the
    system tells (PSS), else in each (RSS)."""

    def __init__(self) -> None:
        self.most = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._ended.wait(0.05):
            self.most = max(self.most, sum(map(_memory, [own, *own.children(recursive=True)])))


def _memory(process: psutil.Process) -> int:
    try:
        found = process.memory_full_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
    return int(getattr(found, "pss", 0) or found.rss)


if __name__ == "__main__":
    sys.exit(typer.run(main))
