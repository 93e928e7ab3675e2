"""What is said of a run's health: every verdict with its evidence, what to do, and where its threshold is from."""

from __future__ import annotations

from markupsafe import Markup

from pipeline.reporting import formats
from pipeline.reporting.jinja_templates import render
from pipeline.reporting.run_data import RunData
from pipeline.reporting.sections.base_section import PageSection, Shown
from pipeline.telemetry.verdicts import Verdict


def _draw(shown: Shown) -> Markup:
    tables = shown.beside(lambda run: render("health.html.j2", health=_rows(run), so_far=run.judged_so_far))
    return tables + render("health_caption.html.j2") if any(run.health for run in shown.runs) else tables


def _rows(run: RunData) -> list[dict[str, str]]:
    return [
        {
            "kind": verdict.kind,
            "what": "" if verdict.what == verdict.kind else verdict.what.replace("_", " "),
            "verdict": verdict.verdict,
            "sign": sign_class(verdict),
            "evidence": verdict.evidence.words,
            "since": "" if verdict.since is None else f"since step {formats.count(verdict.since)}",
            "remedy": "" if verdict.is_healthy else verdict.remedy,
            "source": verdict.source,
        }
        for verdict in run.health
        if verdict.what == verdict.kind or not verdict.is_healthy or verdict.evidence.step is None
    ]


def sign_class(verdict: Verdict) -> str:
    """The class in the style sheet of a verdict: ok, warn, or none of what is unknown."""
    return "ok" if verdict.verdict == "healthy" else "" if verdict.is_healthy else "warn"


SECTION = PageSection("health", "Health", _draw)
