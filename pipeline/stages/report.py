"""Report: one self-contained page about the run, and the model's card."""

from __future__ import annotations

from typing import Any

from pipeline import atomic
from pipeline.engine.stage import Stage, StageContext
from pipeline.reporting.report_config import ReportConfig

UPSTREAM = (
    "ingest",
    "normalize",
    "curate",
    "augment",
    "tokenizer",
    "encode",
    "pack",
    "model",
    "train",
    "evaluate",
)


def run(context: StageContext) -> dict[str, Any]:
    """Write report.html (a record: it shows timings) and model_card.md (a result: it does not)."""
    from pipeline.reporting.data import read_run
    from pipeline.reporting.html import render_report
    from pipeline.reporting.model_card import render_card

    config = context.config
    assert isinstance(config, ReportConfig)
    data = read_run(context.inputs, config)
    page = render_report(data).encode()
    atomic.write_bytes(context.output / "report.html", page)
    atomic.write_bytes(context.output / "model_card.md", render_card(data).encode())
    return {"report_bytes": len(page), "metrics_lines": data.metrics.num_lines}


STAGE = Stage(
    name="report",
    version=3,
    run=run,
    inputs=UPSTREAM,
    reads=("train/metrics.jsonl",),
    # It draws what manifests, metrics and the model's config.json tell.
    unread=(*(f"{stage}/*" for stage in UPSTREAM if stage != "train"), "train/*.safetensors"),
    records=("report.html",),
)
