"""The comparison of two runs as a page: the sections of a report for both, and what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.comparison.comparison_tables import (
    MAX_ROWS,
    Labels,
    data_rows,
    evaluation_rows,
    labels_of,
    none_of,
    reached_sentences,
    result_sentence,
    setting_cells,
    stage_sentences,
    training_rows,
)
from pipeline.comparison.recorded_run import Run, open_run
from pipeline.comparison.run_comparison import compare_opened
from pipeline.engine.artifacts import Workspace
from pipeline.reporting import formats
from pipeline.reporting.html import render_pair
from pipeline.reporting.report_config import ReportConfig
from pipeline.reporting.run_data import read_run
from pipeline.reporting.sections.base_section import Compared

LONGEST_VALUE = 200


def comparison_page(workspace: Workspace, names: Sequence[str]) -> str:
    """The page of two runs. Raises MissingInputError when there is no such run, StorageError when what it left cannot
    be read."""
    runs = [open_run(workspace, name) for name in names]
    comparison = compare_opened(workspace, runs)
    labels = labels_of(comparison)
    compared = {
        "configuration": _settings(comparison["configuration"], runs, labels),
        "evaluation": _evaluation(comparison["evaluation"], labels),
        "flow": _data(comparison["data"], labels),
        "curves": _training(comparison["training"], labels),
        "stages": Compared(notes=[f"{words[0].upper()}{words[1:]}." for words in _stages(comparison, labels)]),
    }
    return render_pair([read_run(run.folders, ReportConfig()) for run in runs], labels, _unfinished(runs), compared)


def _unfinished(runs: Sequence[Run]) -> list[str]:
    """What ended each run that is not whole; "" of others."""
    return ["" if run.outcome == "done" else run.state.get("message") or f"the run is {run.outcome}" for run in runs]


def _settings(settings: Sequence[Mapping[str, Any]], runs: Sequence[Run], labels: Labels) -> Compared:
    rows = []
    for row in sorted(settings, key=lambda row: bool(row["runtime"])):
        outside = " (no result depends on it, but for rounding)" if row["runtime"] else ""
        cells = [formats.shorten(cell, LONGEST_VALUE) for cell in setting_cells(row)]
        rows.append([row["key"] + outside, *cells])
    notes = [] if rows else ["The configurations are the same."]
    for label, run in zip(labels, runs, strict=True):
        notes += [f"{label} is the run {run.state['name']}."] if label != run.state["name"] else []
        notes += [f"{label}: {run.state['message']}."] if run.outcome == "done" and run.state.get("message") else []
    return Compared(["setting", *labels], rows, notes)


def _evaluation(evaluation: Mapping[str, Any], labels: Labels) -> Compared:
    if not evaluation["measures"]:
        return Compared(notes=[f"There is no evaluation of {none_of(labels)}."])
    notes = [f"Note: {note}." for note in evaluation["notes"]]
    if health := result_sentence(evaluation, labels):
        notes.append(f"{health[0].upper()}{health[1:]}.")
    if (more := len(evaluation["sources"]) - MAX_ROWS) > 0:
        notes.append(f"And {more:,} more sources: descent diff --json has all.")
    return Compared(["test split", *labels, "change", ""], evaluation_rows(evaluation, labels), notes)


def _data(data: Mapping[str, Any], labels: Labels) -> Compared:
    rows, same = data_rows(data)
    return Compared(["data", *labels, ""], rows, [f"The same in both: {same}."] if same else [])


def _training(training: Mapping[str, Any], labels: Labels) -> Compared:
    if training["shared"]:
        return Compared(["training", *labels], training_rows(training), ["Both runs have this training."])
    notes = [f"Note: {note}." for note in training["notes"]]
    notes += [f"{words}." for words in reached_sentences(training, labels)]
    return Compared(["training", *labels], training_rows(training), notes)


def _stages(comparison: Mapping[str, Any], labels: Labels) -> list[str]:
    return stage_sentences(comparison["stages"], labels)
