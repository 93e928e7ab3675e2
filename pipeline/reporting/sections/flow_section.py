"""What happened to the documents: the data flow as a drawing, and its counts in full."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from pipeline.reporting import formats
from pipeline.reporting.flow_column import flow_column
from pipeline.reporting.flow_diagram import clusters_in_words, flow_diagram, flow_of, readable
from pipeline.reporting.jinja_templates import render
from pipeline.reporting.run_data import RunData
from pipeline.reporting.sections.base_section import PageSection, Shown


def _draw(shown: Shown) -> Markup:
    flow = flow_of(shown.runs, shown.names)
    drawn = Markup(flow_diagram(flow) + flow_column(flow))
    rows, mixture = ([], []) if shown.is_pair else (_rows(shown.runs[0]), shown.runs[0].mixture)
    return render("flow.html.j2", flow=drawn, rows=rows, mixture=mixture)


def _rows(run: RunData) -> list[dict[str, Any]]:
    """One row for each stage that handles documents."""
    rows = []
    for stage in run.manifests:
        summary = run.summary(stage)
        if "documents_out" not in summary:
            continue
        notes = []
        for key in ("rejected", "dropped", "copies_dropped", "left_unchanged", "changed"):
            reasons = [f"{formats.count(n)} {readable(name)}" for name, n in (summary.get(key) or {}).items() if n]
            notes += [f"{readable(key)}: {', '.join(reasons)}"] if reasons else []
        notes += [f"near-duplicates: {words}"] if (words := clusters_in_words(summary)) else []
        notes += [f"warning: {warning}" for warning in summary.get("warnings") or ()]
        counts = {key: summary.get(key) for key in ("documents_in", "documents_out", "bytes_in", "bytes_out")}
        rows.append({"stage": stage, "notes": notes, **counts})
    return rows


SECTION = PageSection("flow", "Data flow", _draw)
