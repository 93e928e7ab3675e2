"""The page of a run while it goes on, renewed from what its stages and its training have written by then."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.comparison.recorded_run import Run, open_attempt
from pipeline.engine.artifacts import Workspace
from pipeline.errors import MissingInputError
from pipeline.reporting.html import render_report
from pipeline.reporting.report_config import ReportConfig
from pipeline.reporting.run_data import read_run

PAGE = "report-live.html"
"""In a run's folder."""

RUNNING = "running"


def live_pages(workspace: Workspace, name: str, config: ReportConfig, seconds: float) -> Iterator[Path]:
    """Write the page of a run, and again whenever it has got on: looked at every so many `seconds`, until it ends.
    Gives its path each time. Holds no lock and reads artifacts alone.

    Raises MissingInputError when there is no such run.
    """
    before = None
    while True:
        run = open_attempt(workspace, name)
        if run is None:
            raise MissingInputError(f"{workspace.run(name)}: there is no run to report of; descent run begins one")
        if (now := _progress_marks(run)) != before:
            yield write_page(workspace.run(name), run, config, seconds)
            before = now
        if run.outcome != RUNNING:
            return
        time.sleep(seconds)


def write_page(folder: Path, run: Run, config: ReportConfig, seconds: float) -> Path:
    """Write a run's page of now. While it goes on, the page loads itself again after so many `seconds`; not after 0."""
    is_running, data = run.outcome == RUNNING, read_run(run.folders, config)
    renewed_every = max(1, round(seconds)) if is_running and seconds > 0 else 0
    standing = _standing(run, data.metrics.last_step)
    page = render_report(data, standing, is_running=is_running, renewed_every=renewed_every)
    atomic.write_bytes(folder / PAGE, page.encode())
    return folder / PAGE


def _standing(run: Run, step: int | None) -> str:
    """How far a run has come, or what ended it; "" of a whole one."""
    if run.outcome == "done":
        return ""
    if run.outcome != RUNNING:
        return str(run.state.get("message") or f"the run was {run.outcome}")
    done = list(run.state["stages"])
    if "train" in done or step is None:
        return f"{', '.join(done)} done" if done else "the first stage is at work"
    steps = run.settings.get("train.max_steps")
    return f"training, step {step:,}" + (f" of {steps:,}" if isinstance(steps, int) else "")


def _progress_marks(run: Run) -> list[Any]:
    """What changes when a run gets on: its outcome, the keys of its stages, and the records of its training."""
    marks: list[Any] = [run.outcome, {stage: entry["key"] for stage, entry in run.state["stages"].items()}]
    for name in ("metrics.jsonl", "health.jsonl"):
        try:
            found = os.stat(run.folders["train"] / name)
            marks.append((found.st_size, found.st_mtime_ns))
        except (KeyError, OSError):
            marks.append(None)
    return marks
