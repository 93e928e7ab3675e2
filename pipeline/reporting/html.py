"""Pages that need nothing else: a run's report, the page of a training that goes on, and two runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipeline.reporting import formats
from pipeline.reporting.jinja_templates import TEMPLATES, page_style, render, with_labels
from pipeline.reporting.run_data import RunData
from pipeline.reporting.sections import (
    activations_section,
    anatomy_section,
    configuration_section,
    curves_section,
    evaluation_section,
    experts_section,
    flow_section,
    gradients_section,
    health_section,
    leakage_section,
    loss_section,
    parameters_section,
    samples_section,
    stages_section,
)
from pipeline.reporting.sections.base_section import Compared, PageSection, Shown
from pipeline.telemetry.verdicts import worst

SECTIONS: tuple[PageSection, ...] = (
    health_section.SECTION,
    flow_section.SECTION,
    leakage_section.SECTION,
    curves_section.SECTION,
    gradients_section.SECTION,
    activations_section.SECTION,
    experts_section.SECTION,
    anatomy_section.SECTION,
    evaluation_section.SECTION,
    loss_section.SECTION,
    samples_section.SECTION,
    parameters_section.SECTION,
    configuration_section.SECTION,
    stages_section.SECTION,
)
"""In the order of a page."""

_FIRST_COMPARED = ("configuration", "evaluation")
"""What a comparison begins with."""


def render_report(run: RunData, unfinished: str = "", *, is_running: bool = False, renewed_every: int = 0) -> str:
    """The page of a run. The same run data gives the same bytes. `unfinished` says what ended a run that is not whole,
    or how far one has come that `is_running`. The page loads itself again after `renewed_every` seconds, unless that is
    0."""
    badge = "running" if is_running else "not finished"
    head = Markup('<p class="lead">{}</p>\n').format(run.sentence) + _figures(run, unfinished, badge)
    return _page(Shown([run]), run.title, "training report", head, SECTIONS, renewed_every)


def render_pair(
    runs: Sequence[RunData], names: Sequence[str], unfinished: Sequence[str], compared: Mapping[str, Compared]
) -> str:
    """The page of two runs side by side, with what a comparison says of them, by the names of sections. `unfinished`
    says of each what ended it, "" of a whole one. Raises ValueError for other numbers of runs."""
    if len(runs) != 2:
        raise ValueError(f"{len(runs)} runs are no pair")
    shown = Shown(runs, names, compared)
    told = {id(run): why for run, why in zip(runs, unfinished, strict=True)}
    head = shown.beside(
        lambda run: Markup('<p class="lead">{}</p>\n').format(run.sentence) + _figures(run, told[id(run)])
    )
    first = [section for name in _FIRST_COMPARED for section in SECTIONS if section.name == name]
    others = [section for section in SECTIONS if section not in first]
    return _page(shown, " and ".join(names), "comparison", head, [*first, *others])


def _page(
    shown: Shown, title: str, kind: str, head: Markup, sections: Sequence[PageSection], renewed_every: int = 0
) -> str:
    drawn = []
    for section in sections:
        compared = shown.compared.get(section.name)
        body = render("compared.html.j2", compared=compared) if compared else Markup()
        if body := body + section.draw(shown):
            link = section.link or section.title
            drawn.append({"name": section.name, "title": section.title, "link": link, "body": body})
    return with_labels(
        render(
            "page.html.j2",
            title=title,
            kind=kind,
            head=head,
            sections=drawn,
            renewed_every=renewed_every,
            css=page_style(),
            script=Markup((TEMPLATES / "page.js").read_text(encoding="utf-8")),
        )
    )


def _figures(run: RunData, unfinished: str, badge: str = "not finished") -> Markup:
    return render("tiles.html.j2", unfinished=unfinished, badge=badge, tiles=figure_tiles(run), warnings=run.warnings)


def figure_tiles(run: RunData) -> list[dict[str, Any]]:
    """The figures at the top: value, unit, and a remark; `of` is the tag and the step of a record's value."""
    tiles: list[dict[str, Any]] = []

    def tile(value: str, unit: str, remark: str, sign: str = "", of: tuple[str, int] | None = None) -> None:
        tiles.append({"value": value, "unit": unit, "remark": remark, "sign": sign, "of": of})

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
    if isinstance(train.get("seconds"), (int, float)):
        speed = train.get("tokens_per_second")
        remark = f"{formats.compact(speed)} tokens/s" if isinstance(speed, (int, float)) else ""
        if train.get("steps"):
            remark = f"{formats.count(train['steps'])} steps" + (f" · {remark}" if remark else "")
        tile(formats.duration(train["seconds"]), "training time", remark)
    elif last := run.metrics.last.get("train/loss"):
        tile(formats.real(last[1]), f"training {run.words.loss}", _so_far(run, last[0]), of=("train/loss", last[0]))
    if verdict := worst(run.health):
        remark = verdict.evidence.words
        if run.judged_so_far:
            # What is not measured yet is no verdict on the rest.
            healthy = (one for one in run.health if verdict.is_healthy and one.evidence.step is not None)
            verdict = next(healthy, verdict)
            remark = f"so far, {run.judged_so_far}: {verdict.evidence.words}"
        name = verdict.kind if verdict.is_healthy else verdict.what.replace("_", " ")
        tile(verdict.verdict, f"health: {name}", remark, health_section.sign_class(verdict))
    return tiles


def _so_far(run: RunData, step: int) -> str:
    """How far a training came that is not over, or was not brought to its end."""
    words = [f"at step {formats.count(step)}, the last record"]
    if validation := run.metrics.last.get("eval/loss"):
        words.append(f"validation {formats.real(validation[1])} at step {formats.count(validation[0])}")
    if speed := run.metrics.last.get("throughput/tokens_per_second"):
        words.append(f"{formats.compact(speed[1])} tokens/s")
    return " · ".join(words)
