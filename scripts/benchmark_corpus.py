"""How fast the corpus stages are, and how much memory they need: megabytes of text a second by stage, seconds of
processor time, and the most memory that all processes had together.

    .venv/bin/python scripts/benchmark_corpus.py --megabytes 100 --workers 2
    .venv/bin/python scripts/benchmark_corpus.py --megabytes 100 --workers 2 --gopher --datatrove
    .venv/bin/python scripts/benchmark_corpus.py --megabytes 8 --datasketch

The text is paragraphs of Python's documentation with a tenth of their words changed, the same for each run; 7 % of the
documents have characters that are not ASCII. Figures of a machine that does other things at the time say little.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar

import psutil
import pyarrow.parquet as pq
import typer

from pipeline.engine.stage import StageContext
from pipeline.executors.local_session import LocalSession
from pipeline.progress import Progress

MEGABYTE = 1_000_000
STAGES = ("ingest", "normalize", "curate", "augment")
CHANGED_WORDS = 0.1
NON_ASCII_DOCUMENTS = 0.07


def main(
    megabytes: float = 8,
    workers: int = 1,
    folder: Annotated[Path | None, typer.Option(help="Keep here what the stages write.")] = None,
    gopher: Annotated[bool, typer.Option("--gopher", help="Filter by Gopher's rules of repetition as well.")] = False,
    datatrove: Annotated[bool, typer.Option("--datatrove", help="Let datatrove do the same steps, too.")] = False,
    datasketch: Annotated[
        bool, typer.Option("--datasketch", help="Look for near-duplicates by datasketch, too.")
    ] = False,
) -> None:
    """Make the text, run ingest to augment on it, and print what each took."""
    with tempfile.TemporaryDirectory() as temporary:
        root = folder or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        text = root / "text.jsonl"
        write_text(text, megabytes * MEGABYTE)
        print(f"{'stage':<22}{'seconds':>9}{'MB/s':>8}{'CPU s':>8}{'documents':>12}{'most memory':>14}")
        with LocalSession(workers) as session:
            for name in STAGES:
                with Measured(name, megabytes) as measured:
                    measured.num_documents = run_stage(name, text, gopher, workers, session)["documents_out"]
        print_total("ingest to curate", megabytes, Measured.all[:3])
        print_total("ingest to augment", megabytes, Measured.all)
        if datatrove:
            with Measured("datatrove", megabytes) as measured:
                measured.num_documents = run_datatrove(text, root / "datatrove", workers, gopher)
        on_disk = sum(path.stat().st_size for name in STAGES for path in (root / name).rglob("*") if path.is_file())
    print(f"on disk {on_disk / MEGABYTE:,.0f} MB", flush=True)
    if datasketch:
        script = Path(__file__).with_name("benchmark_near_duplicates.py")
        command = [sys.executable, str(script), "--megabytes", str(megabytes), "--workers", str(workers)]
        subprocess.run(command, check=True)


def run_stage(name: str, text: Path, gopher: bool, workers: int, session: LocalSession) -> dict[str, Any]:
    """Carry out a stage beside the text; gives its summary."""
    stage = import_module(f"pipeline.stages.{name}").STAGE
    section = stage.config.model_validate(settings_of(name, text, gopher))
    inputs = {upstream: text.parent / upstream for upstream in stage.upstream}
    output = text.parent / name
    output.mkdir()
    with open(os.devnull, "w") as silence:
        context = StageContext(section, 0, inputs, output, None, workers, Progress(name, silence), session)
        summary: dict[str, Any] = stage.run(context)
    return summary


def run_datatrove(text: Path, folder: Path, workers: int, gopher: bool) -> int:
    """Let datatrove do the same in processes of its own, which print much; gives the number of documents that stay."""
    script = Path(__file__).with_name("benchmark_datatrove.py")
    options = ["--gopher"] if gopher else []
    command = [sys.executable, str(script), str(text), str(folder), str(workers), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return sum(pq.read_metadata(path).num_rows for path in (folder / "kept").glob("*.parquet"))


def settings_of(stage: str, text: Path, gopher: bool) -> dict[str, Any]:
    """The settings of a stage: `ingest` reads the text; all else is at its defaults, but for a filter more."""
    from pipeline.corpus.curate_config import CurateConfig

    if stage == "ingest":
        return {"sources": [{"name": "docs", "type": "jsonl", "paths": [str(text)]}]}
    if stage == "curate" and gopher:
        return {"filters": [*CurateConfig().model_dump()["filters"], {"type": "gopher_repetition"}]}
    return {}


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


class Measured:
    """Measures a piece of work in this process and its children, and prints its line of the table."""

    all: ClassVar[list[Measured]] = []

    def __init__(self, name: str, megabytes: float) -> None:
        self._name, self._megabytes = name, megabytes
        self.num_documents = 0
        self.most_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Measured:
        self._began, self._cpu_began = time.perf_counter(), cpu_seconds()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds, self.cpu_seconds = time.perf_counter() - self._began, cpu_seconds() - self._cpu_began
        self._ended.set()
        self._thread.join()
        Measured.all.append(self)
        print_total(self._name, self._megabytes, [self], self.num_documents)

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            self.most_bytes = max(self.most_bytes, sum(map(memory_of, processes())))


def print_total(name: str, megabytes: float, parts: list[Measured], num_documents: int | None = None) -> None:
    """Print a line of the table for several pieces of work, one after the other."""
    seconds, most = sum(part.seconds for part in parts), max(part.most_bytes for part in parts)
    documents = "" if num_documents is None else f"{num_documents:,}"
    # The processes of datatrove's pools end before anybody asks for their times.
    cpu = "" if name == "datatrove" else f"{sum(part.cpu_seconds for part in parts):.1f}"
    print(f"{name:<22}{seconds:>9.2f}{megabytes / seconds:>8.1f}{cpu:>8}{documents:>12}{most / MEGABYTE:>11,.0f} MB")


def processes() -> list[psutil.Process]:
    """This process and all that it has started."""
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def cpu_seconds() -> float:
    """Processor time of all processes, and of those that have ended."""
    total = 0.0
    for process in processes():
        try:
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
        except psutil.Error:
            continue
    return total


def memory_of(process: psutil.Process) -> int:
    """Memory of a process: pages that it shares count in part where the system tells (PSS), else in each (RSS)."""
    try:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        return 0
    except OSError:
        pass
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


if __name__ == "__main__":
    sys.exit(typer.run(main))
