"""Two runs of a workspace side by side: what differs in their making, and in what came out. From manifests and metrics
alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts import Workspace
from pipeline.errors import ConfigError, MissingInputError
from pipeline.manifests import Manifest, content_digest, describe_differences, read_manifest
from pipeline.reporting import formats
from pipeline.reporting.metrics import read_metrics
from pipeline.runs import read_run
from pipeline.stages import STAGES
from pipeline.terminal import printable

MAX_VALIDATIONS = 12
"""Steps of which the table gives the validation losses."""

TRAINING = {
    "parameters": "count", "steps": "count", "target_tokens": "count", "final_loss": "real", "eval_loss": "real",
    "seconds": "duration", "tokens_per_second": "count", "peak_memory_bytes": "size",
}  # fmt: skip
"""Figures of a training's summary, and how they are written."""

NEEDED = ("curate", "train", "evaluate")
"""Stages without whose artifacts there is nothing to compare."""

STYLES = {"real": formats.real, "count": formats.count, "size": formats.size, "duration": formats.duration}
LINE = "  {:<20} {:>18} {:>18} {:>9}"

Figures = list[dict[str, Any]]


def compare_runs(workspace: Workspace, names: tuple[str, str]) -> dict[str, Any]:
    """What differs between two runs that were carried out, as JSON values: `differences` of settings, seeds and
    sources, in words; whether their `same_test_documents` are held out; `evaluation` and `training`, of each figure
    the name and the two values (None where a run has none); `validation`, the two losses by step.

    Raises MissingInputError when there is no such run or it has no evaluation, and ConfigError for one run twice.
    """
    if names[0] == names[1]:
        raise ConfigError(f"{names[0]} is the configuration's own run; name another to compare it with")
    ours, theirs = (_manifests(workspace, name) for name in names)
    tests = [content_digest(manifests["curate"]["files"], "test") for manifests in (ours, theirs)]
    evaluations = [manifests["evaluate"]["summary"]["test"] for manifests in (ours, theirs)]
    trainings = [manifests["train"]["summary"] for manifests in (ours, theirs)]
    return {
        "runs": list(names),
        "differences": _differences(ours, theirs),
        "same_test_documents": tests[0] == tests[1],
        "evaluation": _figures(evaluations, list(dict.fromkeys([*evaluations[0], *evaluations[1]]))),
        "training": _figures(trainings, list(TRAINING)),
        "validation": _validations([workspace.artifact("train", m["train"]["key"]) for m in (ours, theirs)]),
    }


def format_comparison(found: Mapping[str, Any]) -> str:
    """The comparison as a table for people."""
    lines = [printable(line) for line in found["differences"]] or ["no setting, seed or source differs"]
    if not found["same_test_documents"]:
        lines.append("warning: other documents or labels are held out, so the results say little about each other")
    lines += ["", LINE.format("held-out documents", *found["runs"], "change")]
    lines += [_row(figure, _style_of(figure["name"])) for figure in found["evaluation"]]
    lines += ["", LINE.format("training", *found["runs"], "change")]
    lines += [_row(figure, TRAINING[figure["name"]]) for figure in found["training"]]
    shown = found["validation"]
    if len(shown) > MAX_VALIDATIONS:
        shown = [shown[(len(shown) - 1) * index // (MAX_VALIDATIONS - 1)] for index in range(MAX_VALIDATIONS)]
    lines += ["", LINE.format("validation loss", *found["runs"], "change")]
    lines += [_row({"name": f"step {point['step']:,}", "values": point["values"]}, "real") for point in shown]
    return "\n".join(line.rstrip() for line in lines)


def _manifests(workspace: Workspace, name: str) -> dict[str, Manifest]:
    """Manifests of a run's stages, in order."""
    state = read_run(workspace.run(name))
    if state is None:
        known = [folder.name for folder in sorted(workspace.root.glob("runs/*")) if read_run(folder)]
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise MissingInputError(f"{workspace.root} holds no run {name}; {has}")
    manifests: dict[str, Manifest] = {}
    for stage in STAGES:
        entry = state["stages"].get(stage.name)
        manifest = read_manifest(workspace.artifact(stage.name, entry["key"])) if entry else None
        if manifest is None and stage.name in NEEDED:
            raise MissingInputError(f"run {name} has no artifact of {stage.name} to compare; carry it out first")
        manifests |= {stage.name: manifest} if manifest else {}
    return manifests


def _differences(ours: Mapping[str, Manifest], theirs: Mapping[str, Manifest]) -> list[str]:
    """What differs in the making. That a stage was given other inputs follows from the stages before it."""
    lines = []
    for stage in STAGES:
        if stage.name in ours and stage.name in theirs:
            pair = [{**of[stage.name], "inputs": {}, "seed": None} for of in (ours, theirs)]
            lines += describe_differences(*pair)
    seeds = {name: manifest["seed"] for name, manifest in theirs.items() if manifest["seed"] is not None}
    changed = [f"run.seed {ours[name]['seed']} -> {seed}" for name, seed in seeds.items() if ours[name]["seed"] != seed]
    return changed[:1] + lines


def _figures(summaries: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Figures:
    values = [(name, [_number(summary.get(name)) for summary in summaries]) for name in names]
    return [{"name": name, "values": pair} for name, pair in values if pair != [None, None]]


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _validations(trainings: Sequence[Path]) -> Figures:
    curves = [dict(read_metrics(folder / "metrics.jsonl").curve("eval/loss").points()) for folder in trainings]
    steps = sorted(curves[0].keys() | curves[1].keys())
    return [{"step": int(step), "values": [curve.get(step) for curve in curves]} for step in steps]


def _style_of(name: str) -> str:
    return {"tokens": "count", "documents": "count", "bytes": "size"}.get(name, "real")


def _row(figure: Mapping[str, Any], style: str) -> str:
    before, after = figure["values"]
    change = f"{after / before - 1:+.1%}" if before and after is not None and before > 0 else ""
    values = ["-" if value is None else STYLES[style](value) for value in (before, after)]
    return LINE.format(figure["name"].replace("_", " "), *values, "" if before == after else change)
