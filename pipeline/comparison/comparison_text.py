"""The comparison of runs as text for people: of two on one screen of 80 columns, of more with a column for each."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pipeline.console.terminal_text import printable
from pipeline.evaluation.metrics import Figure
from pipeline.reporting import formats
from pipeline.telemetry.verdicts import verdicts_of, worst

WIDTH = 80
LONGEST_LABEL = 10
LONGEST_FIGURE = 24
MAX_ROWS = 16
"""Settings, reasons or sources that are listed one by one."""

LEAST_CELL = 8
"""Letters of a setting's value that are shown at least, however many runs there are."""

_LOSSES = {"train/loss": ("training loss", "train_loss"), "eval/loss": ("validation loss", "eval_loss")}
_TRAINING: dict[str, tuple[str, Callable[[float], str]]] = {
    "parameters": ("parameters", formats.count),
    "steps": ("steps", formats.count),
    "target_tokens": ("targets", formats.count),
    "seconds": ("time", formats.duration),
    "tokens_per_second": ("tokens a second", formats.count),
    "peak_memory_bytes": ("peak memory", formats.size),
    "skipped_steps": ("skipped steps", formats.count),
    "train_loss": ("last training loss", formats.real),
    "eval_loss": ("last validation loss", formats.real),
    "best_eval_loss": ("best validation loss", formats.real),
    "best_eval_step": ("  at step", formats.count),
}
_SAME_WITH_BEST = ("best_eval_loss", "best_eval_step")

Labels = Sequence[str]


def format_comparison(comparison: Mapping[str, Any]) -> str:
    """What `compare_runs` found: runs, configuration, stages, data, training and evaluation."""
    names = [run["name"] for run in comparison["runs"]]
    are_labels = max(map(len, names)) <= LONGEST_LABEL and len({*names}) == len(names)
    labels = names if are_labels else [_letter(number) for number in range(len(names))]
    blocks = (
        _runs(comparison["runs"], labels),
        _configuration(comparison["configuration"], labels),
        _stages(comparison["stages"], labels),
        _data(comparison["data"], labels),
        _training(comparison["training"], labels),
        _evaluation(comparison["evaluation"], labels),
    )
    return "\n\n".join("\n".join(map(printable, block)) for block in blocks)


def _letter(number: int) -> str:
    """A, B, and so on to Z, then AA."""
    return (_letter(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


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
    outside = "settings outside every key, which change results by rounding at most"
    for title, is_runtime in (("configuration", False), (outside, True)):
        chosen = [row for row in settings if row["runtime"] == is_runtime]
        widest = min(max((len(row["key"]) for row in chosen), default=0), 36)
        room = max(LEAST_CELL, (74 - widest) // len(labels) - 2 * (len(labels) > 2))
        rows = [[formats.shorten(row["key"], widest), *_apart(_values(row), room)] for row in chosen[:MAX_ROWS]]
        lines += [title, *_table([["", *labels], *rows], "<")] if rows else []
        lines += [f"  and {len(chosen) - MAX_ROWS:,} more: --json has all"] if len(chosen) > MAX_ROWS else []
    return lines


def _values(row: Mapping[str, Any]) -> list[str]:
    pairs = zip(row["values"], row["has"], strict=True)
    return [json.dumps(value, ensure_ascii=False) if is_given else "(not given)" for value, is_given in pairs]


def _apart(values: Sequence[str], room: int) -> list[str]:
    """Different values in at most `room` letters each. Of long ones the common beginning is cut first."""
    alike = next((place for place, letters in enumerate(zip(*values, strict=False)) if len(set(letters)) > 1), 0)
    if alike > room // 3 and max(map(len, values)) > room:
        values = [f"…{value[alike - room // 3 :]}" for value in values]
    return [formats.shorten(value, room) for value in values]


def _stages(stages: Iterable[Mapping[str, Any]], labels: Labels) -> list[str]:
    """Which artifacts the runs share, and which differ and why."""
    named: dict[str, list[str]] = {}
    parted = []
    for row in stages:
        causes, relation = _causes(row, labels), row["relation"]
        owners = [label for label, key in zip(labels, row["keys"], strict=True) if key]
        title = {
            "differs": "" if causes else "differ by their inputs alone",
            "same result": "" if causes else "have the same result",
            "missing": "no longer in the workspace",
            "one only": "",
        }.get(relation, relation)
        if relation in ("differs", "same result"):
            ending = ", with the same result" if relation == "same result" else ""
            parted += [f"{row['stage']}{cause}{ending}" for cause in causes]
        if len(owners) < len(labels):
            title = f"in {', '.join(owners)} only"
        if title:
            named.setdefault(title, []).append(row["stage"])
    texts = {title: f"{title}: {', '.join(stages)}" for title, stages in named.items()}
    shared = [texts.pop("shared")] if "shared" in texts else []
    return ["stages", *(line for text in (*shared, *parted, *texts.values()) for line in _wrap(text))]


def _causes(row: Mapping[str, Any], labels: Labels) -> list[str]:
    """Why a stage's artifacts differ: one text for all runs with the same reasons, with their names if they are more
    than two."""
    runs: dict[str, list[str]] = {}
    for label, causes in zip(labels, row["causes"], strict=True):
        if causes:
            runs.setdefault("; ".join(causes[:MAX_ROWS]), []).append(label)
    return [f" of {', '.join(of)}: {why}" if len(labels) > 2 else f": {why}" for why, of in runs.items()]


def _data(data: Mapping[str, Any], labels: Labels) -> list[str]:
    marks = {True: "", None: "", False: "other documents"}
    figures = [
        (f"{split} {what}", counts[what], marks[counts["same_text"]] if what == "documents" else "")
        for split, counts in data["splits"].items()
        for what in ("documents", "tokens")
    ]
    tokenizers = {True: "", None: "", False: "other tokenizer"}[data["same_tokenizer"]]
    figures.append(("vocabulary", data["vocabulary"], tokenizers))
    differing = [(name, values, mark) for name, values, mark in figures if mark or len({*values}) > 1]
    same = [
        f"{formats.count(values[0])} {name}"
        for name, values, mark in figures
        if (name, values, mark) not in differing and values[0] is not None
    ]
    rows = [[name, *_written(values, formats.count), mark] for name, values, mark in differing]
    for reason, values in data["left_out"].items():
        if len({*values}) > 1 and len(rows) < MAX_ROWS:
            rows.append([formats.shorten(f"left out by {reason}", 40), *_written(values, formats.count), ""])
    head = ["data", *labels, ""]
    table = _table([head, *rows], f"<{'>' * len(labels)}<", indent=0) if rows else ["data: the same"]
    return [*table, *(_wrap(f"{'the same: ' if rows else ''}{', '.join(same)}") if same else [])]


def _training(training: Mapping[str, Any], labels: Labels) -> list[str]:
    figures = training["figures"]
    if not any(figures["steps"]):
        return [f"training: {_none_of(labels)} has records of one"]
    rows = [["training", *labels]]
    for key, (name, write) in _TRAINING.items():
        values = figures[key]
        is_known = key == "parameters" and len({*values}) == 1
        is_known |= key in _SAME_WITH_BEST and figures["best_eval_loss"] == figures["eval_loss"]
        if any(values) and not is_known:
            rows.append([name, *_written(values, write)])
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
    if training["comparable"] and training["steps"]:
        others = range(1, len(labels))
        lines += [line for tag in _LOSSES for i in others for line in _wrap(_reached(training, tag, labels, i))]
    return lines


def _curves(steps: Sequence[Mapping[str, Any]], labels: Labels) -> list[str]:
    tags = [tag for tag in _LOSSES if any(value is not None for row in steps for value in row[tag])]
    if not tags:
        return []
    columns = [*labels, *_if_two(labels, "change")]
    rows = [["step", *(cell for _ in tags for cell in columns)]]
    for row in steps:
        cells = [formats.count(row["step"])]
        for tag in tags:
            cells += [*_written(row[tag], formats.real), *_if_two(labels, _change(row[tag], formats.real))]
        rows.append(cells)
    widths, titles = [max(map(len, column)) for column in zip(*rows, strict=True)], ""
    for number, tag in enumerate(tags, 1):
        end = 1 + number * len(columns)
        titles += _LOSSES[tag][0].rjust(sum(width + 2 for width in widths[:end]) - 2 - len(titles))
    return ["", titles, *_table(rows, ">", indent=0)]


def _reached(training: Mapping[str, Any], tag: str, labels: Labels, i: int) -> str:
    """Whether run `i` reached the first one's last loss, else whether the first did that of run `i`."""
    name, key = _LOSSES[tag]
    last, steps = training["figures"][key], training["reached"][tag]
    if last[0] is None or last[i] is None:
        return ""
    first, own = (f"{labels[j]}'s last {name}, {formats.real(last[j])}" for j in (0, i))
    if steps[i][0] is not None:
        return f"{labels[i]} reached {first}, at step {steps[i][0]:,}"
    other = f"; {labels[0]} reached {own}, at step {steps[0][i]:,}" if steps[0][i] is not None else ""
    return f"{labels[i]} did not reach {first}{other}"


def _evaluation(evaluation: Mapping[str, Any], labels: Labels) -> list[str]:
    if not evaluation["measures"]:
        return [f"evaluation: {_none_of(labels)} has one"]
    figures = {key: Figure(**figure) for key, figure in evaluation["figures"].items()}
    main = figures[evaluation["main"]]
    rows = [["evaluation", *labels, *_if_two(labels, "change"), ""]]
    rows += [
        _measure(figures[key].name, row, figures[key], labels)
        for key, row in evaluation["measures"].items()
        if figures[key].better or any(row["differences"])
    ]
    sources, baselines = evaluation["sources"], evaluation["baselines"]
    if len(sources) > 1:
        rows += [_measure(f"  of {name}", row, main, labels) for name, row in list(sources.items())[:MAX_ROWS]]
    rows += [
        _measure(f"  by {name}", {**row, "best": None}, main, labels)
        for name, row in baselines.items()
        if any(row["differences"])
    ]
    for name, row in list(evaluation["benchmarks"].items())[:MAX_ROWS]:
        # The end of a long name tells more: the variant and the metric.
        short = name if len(name) <= LONGEST_FIGURE else f"…{name[1 - LONGEST_FIGURE :]}"
        rows.append(_measure(short, row, Figure(name, name, better=row["better"]), labels))
    more = [f"  and {len(sources) - MAX_ROWS:,} more sources: --json has all"] if len(sources) > MAX_ROWS else []
    notes = [line for note in evaluation["notes"] for line in _wrap(f"note: {note}")]
    return [*_table(rows, f"<{'>' * (len(rows[0]) - 2)}<", indent=0), *more, *notes]


def _measure(name: str, row: Mapping[str, Any], figure: Figure, labels: Labels) -> list[str]:
    def write(value: float) -> str:
        return formats.written(value, figure.style)

    best = None if row["best"] is None else f"{labels[row['best']]} is {'better' if len(labels) == 2 else 'best'}"
    words = best or ("" if row["comparable"] or not figure.better else "not comparable")
    change = _change(row["values"], _points if figure.style == "percent" else write)
    return [formats.shorten(name, LONGEST_FIGURE), *_written(row["values"], write), *_if_two(labels, change), words]


def _points(share: float) -> str:
    return f"{100 * share:.2f} points"


def _change(values: Sequence[float | None], write: Callable[[float], str]) -> str:
    """From the first run's value to the second's."""
    first, second = values[:2]
    if first is None or second is None:
        return ""
    change = second - first
    return f"{'+' if change > 0 else chr(0x2212) if change < 0 else ''}{write(abs(change))}"


def _if_two(labels: Labels, cell: str) -> list[str]:
    """A cell of a column that only a comparison of two has."""
    return [cell] if len(labels) == 2 else []


def _none_of(labels: Labels) -> str:
    return "neither run" if len(labels) == 2 else "none of the runs"


def _written(values: Iterable[Any], write: Callable[[Any], str]) -> list[str]:
    return ["-" if value is None else write(value) for value in values]


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _table(rows: Sequence[Sequence[str]], alignment: str, indent: int = 2) -> list[str]:
    """Columns two apart, as wide as their cells, each flush left (`<`) or right (`>`). The last sign is repeated."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = alignment.ljust(len(widths), alignment[-1])
    forms = [f"{{:{side}{max(1, width)}}}" for side, width in zip(sides, widths, strict=True)]
    return [" " * indent + "  ".join(forms).format(*row).rstrip() for row in rows]
