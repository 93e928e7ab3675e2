"""Time, size and identity of what the stages made, and with which versions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from pipeline.reporting.jinja_templates import render
from pipeline.reporting.run_data import RunData
from pipeline.reporting.sections.base_section import PageSection, Shown


def _draw(shown: Shown) -> Markup:
    return shown.beside(
        lambda run: render("stages.html.j2", stages=[] if shown.is_pair else _rows(run), libraries=_libraries(run))
    )


def _rows(run: RunData) -> list[dict[str, Any]]:
    """Of each stage's artifact; bars are shares of the largest."""
    rows = []
    for stage, manifest in run.manifests.items():
        files = manifest.get("files") or {}
        started = manifest.get("started")
        built = datetime.fromtimestamp(started, UTC) if isinstance(started, (int, float)) else None
        rows.append(
            {
                "name": stage,
                "key": manifest.get("key", ""),
                "version": manifest.get("version", ""),
                "built": built.strftime("%Y-%m-%d %H:%M:%S") if built else "",
                "seconds": float(manifest.get("seconds") or 0),
                "files": len(files),
                "bytes": sum(int(entry.get("size", 0)) for entry in files.values()),
            }
        )
    longest = max((row["seconds"] for row in rows), default=0) or 1
    largest = max((row["bytes"] for row in rows), default=0) or 1
    for row in rows:
        row.update(time_share=row["seconds"] / longest, size_share=row["bytes"] / largest)
    return rows


def _libraries(run: RunData) -> list[tuple[str, str]]:
    """Versions of what shaped the artifacts."""
    found: dict[str, str] = {}
    for manifest in run.manifests.values():
        for name in ("descent", "python", "platform"):
            if manifest.get(name):
                found.setdefault(name, str(manifest[name]))
    for stage, manifest in run.manifests.items():
        found |= manifest.get("libraries") or {}
        found |= run.summary(stage).get("library_versions") or {}
    return list(found.items())


SECTION = PageSection("stages", "Stages and versions", _draw, "Stages")
