"""report.html: everything about a run on one page that needs nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TypeGuard

from markupsafe import Markup

from pipeline.machine import rate_in_words
from pipeline.reporting import formats
from pipeline.reporting.charts import ChartBar, Line, bar_chart, line_chart, sparkline
from pipeline.reporting.flow_column import flow_column
from pipeline.reporting.flow_diagram import flow_diagram, readable
from pipeline.reporting.heatmap import heat_map
from pipeline.reporting.jinja_templates import TEMPLATES, template
from pipeline.reporting.loss_sources import calibration_rows, loss_charts, worst_rows
from pipeline.reporting.run_data import RunData
from pipeline.reporting.settings_table import configuration, given
from pipeline.telemetry.verdicts import Verdict, worst

MAX_ROWS = 60
MAX_SAMPLES = 20
MAX_SAMPLE_CHARACTERS = 4000
_SMOOTH_FROM_POINTS = 100
AGAINST_CHANCE = {"above": "above chance", "at": "no better than chance", "below": "below chance", "": ""}
"""What is said of a benchmark's score, by `Score.against_chance`."""


def render_report(run: RunData, unfinished: str = "") -> str:
    """The whole page. The same run data gives the same bytes. `unfinished` says what ended a run that is not whole."""
    return template("report.html.j2", escapes=True).render(
        title=run.title,
        sentence=run.sentence,
        tiles=figure_tiles(run),
        unfinished=unfinished,
        warnings=run.warnings,
        flow=Markup(flow_diagram(run) + flow_column(run)),
        flow_rows=flow_rows(run),
        curves=[Markup(chart) for chart in _curves(run) if chart],
        early_end=run.early_end,
        speed=_speed(run),
        resumed=run.summary("train").get("resumed_from_steps") or [],
        steps_per_column=run.metrics.gradients.steps_per_column,
        heat_maps=[Markup(chart) for chart in _heat_maps(run) if chart],
        health=health_rows(run),
        layers=layer_rows(run),
        start=run.start,
        start_rows=start_rows(run),
        evaluation=evaluation_rows(run),
        comparison=Markup(_comparison(run)),
        has_intervals=bool((run.summary("evaluate").get("test") or {}).get("intervals")),
        words=run.words,
        before=" ".join(run.added_by_tokenizer("before")),
        withheld=run.withheld,
        loss_charts=[Markup(chart) for chart in loss_charts(run) if chart],
        calibration=calibration_rows(run),
        worst_documents=worst_rows(run),
        left_out=run.summary("evaluate").get("left_out") or {},
        baselines=run.baselines,
        benchmarks=benchmark_rows(run),
        samples=samples(run),
        parts=part_rows(run),
        num_parameters=run.num_parameters,
        num_trainable=run.summary("model").get("trainable"),
        given=given(run),
        configuration=configuration(run),
        stages=stage_rows(run),
        libraries=libraries(run),
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup((TEMPLATES / "report.js").read_text(encoding="utf-8")),
    )


def figure_tiles(run: RunData) -> list[dict[str, str]]:
    """The figures at the top: value, unit, and a remark."""
    tiles: list[dict[str, str]] = []

    def tile(value: str, unit: str, remark: str, sign: str = "") -> None:
        tiles.append({"value": value, "unit": unit, "remark": remark, "sign": sign})

    own, main = run.own_figure, run.words.main
    if own is not None:
        between = run.interval(main, run.summary("evaluate")["test"])
        others = [f"95 %: {between}"] if between else []
        others += [f"{row['name']} {row['value']}" for row in run.baselines if row["name"] != "xz primed"]
        others += ["no bits per byte: the tokenizer loses text"] if run.withheld else []
        sign = "warn" if run.withheld else ""
        tile(formats.written(own, main.style), f"{main.name}, test split", " · ".join(others), sign)
    if run.num_parameters:
        shape = f"{run.architecture}, {', '.join(run.shape[:3])}" if run.shape else run.architecture
        tile(formats.compact(run.num_parameters), "parameters", shape)
    train = run.summary("train")
    if _is_number(train.get("seconds")):
        speed = train.get("tokens_per_second")
        remark = f"{formats.compact(speed)} tokens/s" if _is_number(speed) else ""
        if train.get("steps"):
            remark = f"{formats.count(train['steps'])} steps" + (f" · {remark}" if remark else "")
        tile(formats.duration(train["seconds"]), "training time", remark)
    if verdict := worst(run.health):
        name = verdict.kind if verdict.is_healthy else verdict.what.replace("_", " ")
        tile(verdict.verdict, f"health: {name}", verdict.evidence.words, _sign(verdict))
    return tiles


def _sign(verdict: Verdict) -> str:
    return "ok" if verdict.verdict == "healthy" else "" if verdict.is_healthy else "warn"


def health_rows(run: RunData) -> list[dict[str, str]]:
    """Every verdict with its evidence, what to do, and where its threshold is from."""
    return [
        {
            "kind": verdict.kind,
            "what": "" if verdict.what == verdict.kind else verdict.what.replace("_", " "),
            "verdict": verdict.verdict,
            "sign": _sign(verdict),
            "evidence": verdict.evidence.words,
            "since": "" if verdict.since is None else f"since step {formats.count(verdict.since)}",
            "remedy": "" if verdict.is_healthy else verdict.remedy,
            "source": verdict.source,
        }
        for verdict in run.health
        if verdict.what == verdict.kind or not verdict.is_healthy or verdict.evidence.step is None
    ]


def flow_rows(run: RunData) -> list[dict[str, Any]]:
    """The diagram's counts in full: one row for each stage that handles documents."""
    rows = []
    for stage in run.manifests:
        summary = run.summary(stage)
        if "documents_out" not in summary:
            continue
        notes = []
        for key in ("rejected", "dropped", "changed"):
            reasons = [f"{formats.count(n)} {readable(name)}" for name, n in (summary.get(key) or {}).items() if n]
            notes += [f"{key}: {', '.join(reasons)}"] if reasons else []
        counts = {key: summary.get(key) for key in ("documents_in", "documents_out", "bytes_in", "bytes_out")}
        rows.append({"stage": stage, "notes": notes, **counts})
    return rows


def _curves(run: RunData) -> Iterable[str]:
    curve = run.metrics.curve
    loss = curve("train/loss")
    lines = [Line("training", loss.points(), "c1")]
    if len(loss.points()) >= _SMOOTH_FROM_POINTS:
        lines = [Line("training", loss.points(), "c1 faint"), Line("training, smoothed", loss.smoothed(), "c1")]
    lines.append(Line("validation", curve("eval/loss").points(), "c2", markers=True))
    yield line_chart(lines, title="Loss", y_label=run.words.loss)
    rate = Line("learning rate", curve("train/learning_rate").points(), "c3")
    yield line_chart([rate], title="Learning rate", y_label="learning rate")
    before = Line("before clipping", curve("train/grad_norm").points(), "c4")
    after = Line("after clipping", curve("train/grad_norm_clipped").points(), "c1 dashed")
    yield line_chart([before, after], title="Gradient norm", y_label="global gradient norm", log_y=True)
    speed = Line("throughput", curve("throughput/tokens_per_second").points(), "c5")
    yield line_chart([speed], title="Throughput", y_label="target tokens per second")


def _speed(run: RunData) -> str:
    """In what the training computed, and what share of the hardware's peak it reached."""
    train = run.summary("train")
    peak, mfu, words = train.get("peak") or {}, train.get("mfu"), []
    if train.get("precision"):
        words.append(f"Products were computed in {train['precision']}.")
    if _is_number(mfu) and peak.get("flops_per_second"):
        rate = rate_in_words(peak["flops_per_second"])
        words.append(f"The training reached {mfu:.0%} of {rate} a process, by its median record ({peak['source']}).")
    return " ".join(words)


def _heat_maps(run: RunData) -> Iterable[str]:
    yield heat_map(run.metrics.gradients, title="Gradients", scale_label="gradient norm")
    marks = [(1e-3, "10⁻³, the usual size of a healthy update")]
    yield heat_map(run.metrics.updates, title="Updates", scale_label="update / weight norm", marks=marks)


def layer_rows(run: RunData) -> list[dict[str, Any]]:
    """Medians of the figures of each layer and the course of its gradient norm."""
    rows = []
    for name, layer in (run.summary("train").get("layers") or {}).items():
        trend = Markup(sparkline(_thinned(run.metrics.gradients.row(name), 48)))
        figures = {key: layer.get(key) for key in ("grad_norm", "param_norm", "update_ratio")}
        rows.append({"name": name, "trend": trend, **figures})
    return rows


def start_rows(run: RunData) -> list[dict[str, Any]]:
    """Scales of each block before training, each with its share of the largest, for a bar."""
    layers = run.start.get("layers") or {}
    rows = [
        {
            "name": name,
            "figures": [(layer.get(quantity), 0.0) for quantity in ("activation_rms", "grad_norm")],
        }
        for name, layer in list(layers.items())[:MAX_ROWS]
    ]
    for column in (0, 1):
        largest = max((row["figures"][column][0] or 0 for row in rows), default=0)
        for row in rows:
            value = row["figures"][column][0]
            row["figures"][column] = (value, value / largest if value and largest else 0.0)
    return rows


def _thinned(values: list[float | None], limit: int) -> list[float | None]:
    return values[:: math.ceil(len(values) / limit)] if values else []


def evaluation_rows(run: RunData) -> list[dict[str, Any]]:
    """Figures of the test split, overall and for each source: `values` has those of `run.words.figures`."""
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


def _comparison(run: RunData) -> str:
    own, words = run.own_figure, run.words
    if run.withheld:
        return ""
    bars = [ChartBar("this model", own, highlight=True)] if own is not None else []
    bars += [ChartBar(row["name"], row["figure"]) for row in run.baselines]
    name = words.main.name
    title = f"{name[0].upper()}{name[1:]} of the model and the baselines"
    return bar_chart(bars, title=title, x_label=f"{name} ({words.better} is better)")


def benchmark_rows(run: RunData) -> list[dict[str, Any]]:
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


def samples(run: RunData) -> list[dict[str, Any]]:
    """Prompts and their continuations, and what of those stands in the training text."""
    return [
        {
            **{name: formats.shorten(str(sample.get(name, "")), MAX_SAMPLE_CHARACTERS) for name in ("prompt", "text")},
            "copied": sample.get("copied"),
        }
        for sample in (run.summary("evaluate").get("samples") or [])[:MAX_SAMPLES]
    ]


def part_rows(run: RunData) -> list[dict[str, Any]]:
    """Parameters by part, the numbered blocks of one shape in one row."""
    groups: dict[str, list[int]] = {}
    trainable: dict[str, int] = {}
    for part in run.parts:
        name = re.sub(r"\b\d+\b", "N", str(part["name"]))
        groups.setdefault(name, []).append(int(part["parameters"]))
        trainable[name] = trainable.get(name, 0) + int(part.get("trainable", part["parameters"]))
    total = sum(map(sum, groups.values())) or 1
    return [
        {
            "name": name,
            "blocks": len(each),
            "each": each[0] if len(set(each)) == 1 else None,
            "parameters": sum(each),
            "trainable": trainable[name],
            "share": sum(each) / total,
        }
        for name, each in list(groups.items())[:MAX_ROWS]
    ]


def stage_rows(run: RunData) -> list[dict[str, Any]]:
    """Time, size and identity of each stage's artifact; bars are shares of the largest."""
    rows = []
    for stage, manifest in run.manifests.items():
        files = manifest.get("files") or {}
        started = manifest.get("started")
        built = datetime.fromtimestamp(started, UTC).strftime("%Y-%m-%d %H:%M:%S") if _is_number(started) else ""
        rows.append(
            {
                "name": stage,
                "key": manifest.get("key", ""),
                "version": manifest.get("version", ""),
                "built": built,
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


def libraries(run: RunData) -> list[tuple[str, str]]:
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


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
