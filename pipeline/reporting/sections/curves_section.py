"""Curves of a training over its steps; of two runs in one drawing."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from pipeline.machine import rate_in_words
from pipeline.reporting import formats
from pipeline.reporting.charts import Level, Line, line_chart
from pipeline.reporting.jinja_templates import render
from pipeline.reporting.run_data import RunData
from pipeline.reporting.sections.base_section import PageSection, Shown
from pipeline.reporting.stacked_chart import stacked_chart

_SMOOTH_FROM_POINTS = 100
_MOST_BENCHMARKS = 12
_FLAT = 4.0
"""A curve that is so many times lower than the one beside it looks flat."""
_PHASES = {
    "data": "waiting for data",
    "forward_backward": "forward and backward",
    "optimizer": "optimizer",
    "rest": "rest",
}
"""Of a step, by the names in its records `time/<phase>_seconds`."""


def _draw(shown: Shown) -> Markup:
    charts = [Markup(chart) for chart in _charts(shown) if chart]
    captions = shown.beside(lambda run: render("curves_caption.html.j2", words=_captions(run)))
    return render("curves.html.j2", charts=charts, captions=captions if charts else "")


def _charts(shown: Shown) -> Iterator[str]:
    labels = list(dict.fromkeys(run.words.loss for run in shown.runs))
    loss = [line for place in range(len(shown.runs)) for line in _losses(shown, place)]
    levels = reference_levels(shown.runs[0])
    if any(reference_levels(run) != levels for run in shown.runs):
        levels = []
    yield line_chart(loss, title="Loss", y_label=" or ".join(labels), levels=levels)
    yield _rates(shown)
    norms = ("before clipping", "train/grad_norm", "c4"), ("after clipping", "train/grad_norm_clipped", "c1 dashed")
    yield _chart(shown, "Gradient norm", "global gradient norm", *norms, log_y=True)
    speed = ("throughput", "throughput/tokens_per_second", "c5")
    yield _chart(shown, "Throughput", "target tokens per second", speed)
    yield from _benchmarks(shown)
    times = [[run.metrics.times.means(phase) for phase in _PHASES] for run in shown.runs]
    reach = max((sum(filter(None, column)) for means in times for column in zip(*means, strict=True)), default=0.0)
    for run, name, means in zip(shown.runs, shown.names, times, strict=True):
        phases = [
            (words, f"time/{phase}_seconds", of) for (phase, words), of in zip(_PHASES.items(), means, strict=True)
        ]
        yield stacked_chart(
            run.metrics.times.columns(),
            phases,
            title=f"Time {name}".strip(),
            y_label=f"seconds a step, {name}".rstrip(", "),
            reach=reach,
        )


def _benchmarks(shown: Shown) -> Iterator[str]:
    """Scores while training, each between its standard errors, with chance."""
    tags = dict.fromkeys(tag for run in shown.runs for tag in run.metrics.curves if tag.startswith("benchmark/"))
    scores = [tag for tag in tags if not (tag.endswith(("_error", "_chance")) and tag.rpartition("_")[0] in tags)]
    for tag in scores[:_MOST_BENCHMARKS]:
        lines: list[Line] = []
        chances: dict[float, None] = {}
        for place, (run, name) in enumerate(zip(shown.runs, shown.names, strict=True)):
            curve, colour = run.metrics.curve, f"c{place + 1}"
            points, errors = curve(tag).points(), dict(curve(f"{tag}_error").points())
            for sign, words in (1, "+ standard error"), (-1, "\u2212 standard error"):
                edge = [(step, value + sign * errors[step]) for step, value in points if step in errors]
                lines.append(Line(f"{name} {words}".strip(), edge, f"{colour} faint"))
            lines.append(Line(f"{name} score".strip(), points, colour, markers=True, tag=tag))
            chances |= {value: None for _, value in curve(f"{tag}_chance").points()}
        ends = [step for each in lines for step, _ in each.points]
        for chance in chances:
            lines.append(
                Line(f"chance {formats.real(chance)}", [(min(ends), chance), (max(ends), chance)], "c4 dashed")
            )
        title = tag.removeprefix("benchmark/")
        yield line_chart(lines, title=title, y_label=title.rpartition("/")[2])


def reference_levels(run: RunData) -> list[Level]:
    """What the losses of a training are held against, in their unit: a uniform guess, one by how often each target
    stands in the training split (of numbers: always saying 0, and the best constant), and the best baseline of the
    evaluation.

    A baseline's bits per byte are turned into nats a token by the model's own loss over its own bits per byte: both are
    sums over the same tokens and the same bytes, so that is ln 2 x bytes / tokens of the test split.
    """
    facts, test = run.facts, run.summary("evaluate").get("test") or {}
    guess = facts.get("guess_loss") or run.start.get("uniform_loss")
    names = "guessing", "token frequencies" if run.words.is_generative else "class frequencies"
    if facts.get("predicts") == "numbers":
        names = "always 0", "best constant"
    found = [
        (names[0], guess),
        (names[1], facts.get("frequency_loss")),
    ]
    if run.words.main.key == "bits_per_byte" and test.get("loss") and test.get("bits_per_byte"):
        nats = test["loss"] / test["bits_per_byte"]
        best = min(run.baselines, key=lambda row: float(row["figure"]), default=None)
        found += [(f"{best['name']}, test split", best["figure"] * nats)] if best else []
    return [Level(f"{name} {formats.real(value)}", value) for name, value in found if isinstance(value, (int, float))]


def _losses(shown: Shown, place: int) -> Iterator[Line]:
    """Training and validation of a run: of one alone in two colours, of two runs in a colour for each."""
    curve, name = shown.runs[place].metrics.curve, f"{shown.names[place]} ".lstrip()
    own, other = (f"c{place + 1}", f"c{place + 1} dashed") if shown.is_pair else ("c1", "c2")
    loss, tag = curve("train/loss"), "train/loss"
    if len(loss.points()) >= _SMOOTH_FROM_POINTS:
        yield Line(f"{name}training", loss.points(), f"{own} faint", tag=tag)
        yield Line(f"{name}training, smoothed", loss.smoothed(), own)
    else:
        yield Line(f"{name}training", loss.points(), own, tag=tag)
    yield Line(f"{name}validation", curve("eval/loss").points(), other, markers=True, tag="eval/loss")


def _chart(shown: Shown, title: str, y_label: str, *lines: tuple[str, str, str], log_y: bool = False) -> str:
    """Figures by what they are, their tag, and their colour on the page of one run."""
    drawn = []
    for place, (run, name) in enumerate(zip(shown.runs, shown.names, strict=True)):
        for what, tag, css in lines:
            colour = f"c{place + 1}{' dashed' if 'dashed' in css else ''}" if shown.is_pair else css
            drawn.append(Line(f"{name} {what}".strip(), run.metrics.curve(tag).points(), colour, tag=tag))
    return line_chart(drawn, title=title, y_label=y_label, log_y=log_y)


def _rates(shown: Shown) -> str:
    """Learning rates; of two runs as parts of their peaks where on one scale the lower one would be a flat line."""
    tag = "train/learning_rate"
    points = [run.metrics.curve(tag).points() for run in shown.runs]
    peaks = [max((value for _, value in of), default=0.0) for of in points]
    if not 0 < _FLAT * min(peaks) < max(peaks):
        return _chart(shown, "Learning rate", "learning rate", ("learning rate", tag, "c3"))
    lines = [
        Line(f"{name}, peak {formats.real(peak, 3)}", [(step, value / peak) for step, value in of], f"c{place}")
        for place, (name, peak, of) in enumerate(zip(shown.names, peaks, points, strict=True), 1)
    ]
    return line_chart(lines, title="Learning rate", y_label="learning rate / its peak")


def _captions(run: RunData) -> list[str]:
    """In what the training computed, what share of the hardware's peak it reached, how it ended and was resumed."""
    train, levels = run.summary("train"), reference_levels(run)
    peak, mfu, words = train.get("peak") or {}, train.get("mfu"), []
    if train.get("precision"):
        words.append(f"Products were computed in {train['precision']}.")
    if isinstance(mfu, float) and peak.get("flops_per_second"):
        rate = rate_in_words(peak["flops_per_second"])
        words.append(f"The training reached {mfu:.0%} of {rate} a process, by its median record ({peak['source']}).")
    told = [" ".join(words)] if words else []
    if levels:
        told.append(f"Dotted, where they are near the curves: {'; '.join(level.label for level in levels)}.")
    told += [f"The training {run.early_end}."] if run.early_end else []
    if resumed := train.get("resumed_from_steps"):
        told.append(f"The training was interrupted and resumed from step {', '.join(map(str, resumed))}.")
    return told


SECTION = PageSection("curves", "Curves", _draw)
