"""Figures of the test split, beside baselines and chance."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from pipeline.reporting import formats
from pipeline.reporting.charts import ChartBar, bar_chart
from pipeline.reporting.jinja_templates import render
from pipeline.reporting.run_data import RunData
from pipeline.reporting.sections.base_section import MAX_ROWS, PageSection, Shown

AGAINST_CHANCE = {"above": "above chance", "at": "no better than chance", "below": "below chance", "": ""}
"""What is said of a benchmark's score, by `Score.against_chance`."""


def _draw(shown: Shown) -> Markup:
    reach = max((bar.value for run in shown.runs for bar in _bars(run)), default=0.0)
    return shown.beside(lambda run: _of_run(run, shown.is_pair, reach))


def _of_run(run: RunData, is_compared: bool, reach: float) -> Markup:
    """The comparison's own table has the figures of both runs: then they are not told again."""
    return render(
        "evaluation.html.j2",
        is_compared=is_compared,
        evaluation=_rows(run),
        comparison=Markup(_bar_chart(run, reach)),
        has_intervals=bool((run.summary("evaluate").get("test") or {}).get("intervals")),
        words=run.words,
        before=" ".join(run.added_by_tokenizer("before")),
        withheld=run.withheld,
        left_out=run.summary("evaluate").get("left_out") or {},
        baselines=run.baselines,
        benchmarks=_benchmark_rows(run),
    )


def _rows(run: RunData) -> list[dict[str, Any]]:
    """Figures overall and for each source: `values` has those of `run.words.figures`."""
    summary = run.summary("evaluate")
    groups = [("whole test split", True, summary["test"])] if summary.get("test") else []
    groups += [(name, False, of) for name, of in list((summary.get("sources") or {}).items())[:MAX_ROWS]]
    return [
        {
            "name": name,
            "own": own,
            "values": [(of.get(figure.key), figure.style, run.interval(figure, of)) for figure in run.words.figures],
        }
        for name, own, of in groups
    ]


def _bars(run: RunData) -> list[ChartBar]:
    if run.withheld:
        return []
    own = [ChartBar("this model", run.own_figure, highlight=True)] if run.own_figure is not None else []
    return own + [ChartBar(row["name"], row["figure"]) for row in run.baselines]


def _bar_chart(run: RunData, reach: float) -> str:
    """The main figure of the model and of the baselines, on the scale of all runs of the page."""
    name = run.words.main.name
    title = f"{name[0].upper()}{name[1:]} of the model and the baselines"
    return bar_chart(_bars(run), title=title, x_label=f"{name} ({run.words.better} is better)", reach=reach)


def _benchmark_rows(run: RunData) -> list[dict[str, Any]]:
    """Scores of benchmarks beside chance."""
    return [
        {
            "task": score.task,
            "metric": score.metric,
            "value": formats.with_error(score.value, score.standard_error),
            "chance": score.chance,
            "against_chance": AGAINST_CHANCE[score.against_chance],
            "sign": "ok" if score.against_chance == "above" else "warn",
            "documents": score.documents,
        }
        for score in run.benchmarks[:MAX_ROWS]
    ]


SECTION = PageSection("evaluation", "Evaluation", _draw)
