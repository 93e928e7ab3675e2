"""How far the held-out documents are from training: what they have in common, and which benchmarks were looked for."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from pipeline.reporting.jinja_templates import render
from pipeline.reporting.run_data import RunData
from pipeline.reporting.sections.base_section import PageSection, Shown


def _draw(shown: Shown) -> Markup:
    return shown.beside(_tables)


def _tables(run: RunData) -> Markup:
    curated = run.summary("curate")
    if "leakage" not in curated:
        return Markup()
    dropped = curated.get("dropped") or {}
    benchmarks: list[dict[str, Any]] = [
        {"name": name, **found, "dropped": dropped.get(f"in benchmark {name}", 0)}
        for name, found in (curated.get("benchmarks") or {}).items()
    ]
    return render("leakage.html.j2", splits=curated["leakage"], benchmarks=benchmarks)


SECTION = PageSection("leakage", "Held-out documents in training", _draw, "Leakage")
