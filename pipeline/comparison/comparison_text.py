"""The comparison of runs as text for people: of two on one screen of 80 columns, of more with a column for each."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.comparison.comparison_tables import (
    LOSSES,
    MAX_ROWS,
    Labels,
    change_in_words,
    data_rows,
    evaluation_rows,
    if_two,
    labels_of,
    none_of,
    reached_sentences,
    result_sentence,
    setting_cells,
    shown_steps,
    stage_sentences,
    training_rows,
    written_cells,
)
from pipeline.console.terminal_text import printable
from pipeline.reporting import formats
from pipeline.telemetry.verdicts import verdicts_of, worst

WIDTH = 80
LONGEST_FIGURE = 24
LEAST_CELL = 8
"""Letters of a setting's value that are shown at least, however many runs there are."""


def format_comparison(comparison: Mapping[str, Any]) -> str:
    """What `compare_runs` found: runs, configuration, stages, data, training and evaluation."""
    labels = labels_of(comparison)
    blocks = (
        _runs(comparison["runs"], labels),
        _configuration(comparison["configuration"], labels),
        ["stages", *(line for text in stage_sentences(comparison["stages"], labels) for line in _wrap(text))],
        _data(comparison["data"], labels),
        _training(comparison["training"], labels),
        _evaluation(comparison["evaluation"], labels),
    )
    return "\n\n".join("\n".join(map(printable, block)) for block in blocks)


def _runs(runs: Iterable[Mapping[str, Any]], labels: Labels) -> list[str]:
    lines = []
    for run, label in zip(runs, labels, strict=True):
        code = f" with exit code {run['exit_code']}" if run.get("exit_code") else ""
        after = {"report": "", None: " before any stage"}.get(run["last_stage"], f" after {run['last_stage']}")
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(run["started"]))
        name = label if label == run["name"] else f"{label} = {run['name']}"
        lines.append(f"{name}: {run['outcome']}{after}{code}, started {began}")
        if run.get("message"):
            lines += _wrap(formats.shorten(run["message"], 3 * WIDTH - 20))
    return lines


def _configuration(settings: Sequence[Mapping[str, Any]], labels: Labels) -> list[str]:
    if not settings:
        return ["configuration: the same"]
    lines = []
    outside = "settings that no result depends on, but for rounding"
    for title, is_runtime in (("configuration", False), (outside, True)):
        chosen = [row for row in settings if row["runtime"] == is_runtime]
        widest = min(max((len(row["key"]) for row in chosen), default=0), 36)
        room = max(LEAST_CELL, (74 - widest) // len(labels) - 2 * (len(labels) > 2))
        rows = [[formats.shorten(row["key"], widest), *_apart(setting_cells(row), room)] for row in chosen[:MAX_ROWS]]
        lines += [title, *_table([["", *labels], *rows], "<")] if rows else []
        lines += [f"  and {len(chosen) - MAX_ROWS:,} more: --json has all"] if len(chosen) > MAX_ROWS else []
    return lines


def _apart(values: Sequence[str], room: int) -> list[str]:
    """Different values in at most `room` letters each. Of long ones the common beginning is cut first."""
    alike = next((place for place, letters in enumerate(zip(*values, strict=False)) if len(set(letters)) > 1), 0)
    if alike > room // 3 and max(map(len, values)) > room:
        values = [f"…{value[alike - room // 3 :]}" for value in values]
    return [formats.shorten(value, room) for value in values]


def _data(data: Mapping[str, Any], labels: Labels) -> list[str]:
    found, same = data_rows(data)
    rows = [[formats.shorten(name, 40), *cells] for name, *cells in found]
    head = ["data", *labels, ""]
    table = _table([head, *rows], f"<{'>' * len(labels)}<", indent=0) if rows else ["data: the same"]
    return [*table, *(_wrap(f"{'the same: ' if rows else ''}{same}") if same else [])]


def _training(training: Mapping[str, Any], labels: Labels) -> list[str]:
    if not any(training["figures"]["steps"]):
        return [f"training: {none_of(labels)} has records of one"]
    rows = [["training", *labels], *training_rows(training)]
    unhealthy: dict[str, list[str]] = {}
    for stage, health in training["health"].items():
        found = [verdicts_of(verdicts) for verdicts in health]
        if not any(found):
            continue
        worst_of = [worst(verdicts) for verdicts in found]
        words = ["-" if verdict is None else verdict.verdict for verdict in worst_of]
        rows.append(["health at the start" if stage == "model" else "health", *words])
        for verdicts, label in zip(found, labels, strict=True):
            for verdict in verdicts:
                if not verdict.is_healthy:
                    unhealthy.setdefault(verdict.in_words, []).append(label)
    lines = _table(rows, "<>", indent=0)
    for why, of in unhealthy.items():
        lines += _wrap(formats.shorten(f"{', '.join(of)}: {why}", 2 * WIDTH - 12))
    if training["shared"]:
        return [*lines, f"  {'both' if len(labels) == 2 else 'all'} runs have this training"]
    lines += _curves(training["steps"], labels)
    lines += [line for note in training["notes"] for line in _wrap(f"note: {note}")]
    return [*lines, *(line for sentence in reached_sentences(training, labels) for line in _wrap(sentence))]


def _curves(steps: Sequence[Mapping[str, Any]], labels: Labels) -> list[str]:
    tags = [tag for tag in LOSSES if any(value is not None for row in steps for value in row[tag])]
    if not tags:
        return []
    shown, note = shown_steps(steps)
    columns = [*labels, *if_two(labels, "change")]
    rows = [["step", *(cell for _ in tags for cell in columns)]]
    for row in shown:
        cells = [formats.count(row["step"])]
        for tag in tags:
            change = change_in_words(row[tag], formats.real)
            cells += [*written_cells(row[tag], formats.real), *if_two(labels, change)]
        rows.append(cells)
    widths, titles = [max(map(len, column)) for column in zip(*rows, strict=True)], ""
    for number, tag in enumerate(tags, 1):
        end = 1 + number * len(columns)
        titles += LOSSES[tag][0].rjust(sum(width + 2 for width in widths[:end]) - 2 - len(titles))
    return ["", titles, *_table(rows, ">", indent=0), *(_wrap(note) if note else [])]


def _evaluation(evaluation: Mapping[str, Any], labels: Labels) -> list[str]:
    if not evaluation["measures"]:
        return [f"evaluation: {none_of(labels)} has one"]
    found, sources = evaluation_rows(evaluation, labels), evaluation["sources"]
    rows = [["evaluation", *labels, *if_two(labels, "change"), ""]]
    for name, *cells in found:
        # The end of a benchmark's long name tells more: the variant and the metric.
        is_cut = name in evaluation["benchmarks"] and len(name) > LONGEST_FIGURE
        short = f"…{name[1 - LONGEST_FIGURE :]}" if is_cut else formats.shorten(name, LONGEST_FIGURE)
        rows.append([short, *cells])
    more = [f"  and {len(sources) - MAX_ROWS:,} more sources: --json has all"] if len(sources) > MAX_ROWS else []
    health = result_sentence(evaluation, labels)
    told = [*(f"note: {note}" for note in evaluation["notes"]), *([health] if health else [])]
    notes = [line for words in told for line in _wrap(words)]
    return [*_table(rows, f"<{'>' * (len(rows[0]) - 2)}<", indent=0), *more, *notes]


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _table(rows: Sequence[Sequence[str]], alignment: str, indent: int = 2) -> list[str]:
    """Columns two apart, as wide as their cells, each flush left (`<`) or right (`>`). The last sign is repeated."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = alignment.ljust(len(widths), alignment[-1])
    forms = [f"{{:{side}{max(1, width)}}}" for side, width in zip(sides, widths, strict=True)]
    return [" " * indent + "  ".join(forms).format(*row).rstrip() for row in rows]
