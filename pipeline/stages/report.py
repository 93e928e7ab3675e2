"""Report: one self-contained page about the run, and the model's card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.engine.stage import EVERY_STAGE_BEFORE, RunFolder, Stage, StageContext
from pipeline.reporting.report_config import ReportConfig


def run(context: StageContext[ReportConfig]) -> dict[str, Any]:
    """Write report.html (a record: it shows timings) and model_card.md (a result: it does not)."""
    from pipeline.reporting.html import render_report
    from pipeline.reporting.model_card import render_card
    from pipeline.reporting.run_data import read_run

    config = context.config
    data = read_run(context.inputs, config)
    page = render_report(data).encode()
    atomic.write_bytes(context.output / "report.html", page)
    atomic.write_bytes(context.output / "model_card.md", render_card(data).encode())
    return {"report_bytes": len(page), "metrics_lines": data.metrics.num_lines}


def report_failure(folder: Path, artifacts: Mapping[str, Path], config: ReportConfig | None, message: str) -> None:
    """Write report.html about a run that failed."""
    from pipeline.reporting.html import render_report
    from pipeline.reporting.run_data import read_run

    page = render_report(read_run(artifacts, config or ReportConfig()), unfinished=message)
    atomic.write_bytes(folder / "report.html", page.encode())


STAGE = Stage(
    name="report",
    version=4,
    config=ReportConfig,
    run=run,
    inputs=(EVERY_STAGE_BEFORE,),
    reads=("train/metrics.jsonl",),
    # It draws what manifests, metrics and the model's config.json tell.
    opens_files=("train/*.json",),
    records=("report.html",),
    run_folder=RunFolder(links=("report.html",), copies={"model_card.md": "model/README.md"}),
    report_failure=report_failure,
)
