"""The comparison of two runs as text for people, on one screen of 80 columns."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pipeline.reporting import formats
from pipeline.reporting.tasks import WORDS, Figure
from pipeline.terminal import printable

WIDTH = 80
LONGEST_LABEL = 10
MAX_ROWS = 16
"""Settings, reasons or sources that are listed one by one."""

SIDES = ("first", "second")
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


def format_comparison(comparison: Mapping[str, Any]) -> str:
    """What `compare_runs` found: runs, configuration, stages, data, training and evaluation."""
    names = [run["name"] for run in comparison["runs"]]
    labels = names if max(map(len, names)) <= LONGEST_LABEL and names[0] != names[1] else ["A", "B"]
    blocks = (
        _runs(comparison["runs"], labels),
        _configuration(comparison["configuration"], labels),
        _stages(comparison["stages"], labels),
        _data(comparison["data"], labels),
        _training(comparison["training"], labels),
        _evaluation(comparison["evaluation"], [run["task"] for run in comparison["runs"]], labels),
    )
    return "\n\n".join("\n".join(map(printable, block)) for block in blocks)


def _runs(runs: Iterable[Mapping[str, Any]], labels: Sequence[str]) -> list[str]:
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


def _configuration(settings: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> list[str]:
    if not settings:
        return ["configuration: the same"]
    lines = []
    outside = "settings outside every key, which change results by rounding at most"
    for title, is_runtime in (("configuration", False), (outside, True)):
        chosen = [row for row in settings if row["runtime"] == is_runtime]
        widest = min(max((len(row["key"]) for row in chosen), default=0), 36)
        rows = [
            [formats.shorten(row["key"], widest), *_apart([_value(row, side) for side in SIDES], (74 - widest) // 2)]
            for row in chosen[:MAX_ROWS]
        ]
        lines += [title, *_table([["", *labels], *rows], "<<<")] if rows else []
        lines += [f"  and {len(chosen) - MAX_ROWS:,} more: --json has all"] if len(chosen) > MAX_ROWS else []
    return lines


def _value(row: Mapping[str, Any], side: str) -> str:
    return json.dumps(row[side], ensure_ascii=False) if side in row else "(not given)"


def _apart(values: Sequence[str], room: int) -> list[str]:
    """Different values in so many letters; what long ones begin with alike is cut first."""
    alike = next((place for place, letters in enumerate(zip(*values, strict=False)) if len(set(letters)) > 1), 0)
    if alike > room // 3 and max(map(len, values)) > room:
        values = [f"…{value[alike - room // 3 :]}" for value in values]
    return [formats.shorten(value, room) for value in values]


def _stages(stages: Iterable[Mapping[str, Any]], labels: Sequence[str]) -> list[str]:
    """Which artifacts are shared, where the runs part and why, and what follows from that."""
    named: dict[str, list[str]] = {}
    parted = []
    for row in stages:
        relation = row["relation"]
        if relation in ("differs", "same result") and row["causes"]:
            why = "; ".join(row["causes"][:MAX_ROWS])
            parted.append(f"{row['stage']}: {why}" + (", with the same result" if relation == "same result" else ""))
            continue
        title = {
            "differs": "differ by their inputs alone",
            "same result": "have the same result",
            "one only": f"in {labels[0] if row['first'] else labels[1]} only",
            "missing": "no longer in the workspace",
        }.get(relation, relation)
        named.setdefault(title, []).append(row["stage"])
    texts = {title: f"{title}: {', '.join(stages)}" for title, stages in named.items()}
    shared = [texts.pop("shared")] if "shared" in texts else []
    return ["stages", *(line for text in (*shared, *parted, *texts.values()) for line in _wrap(text))]


def _data(data: Mapping[str, Any], labels: Sequence[str]) -> list[str]:
    marks = {True: "", None: "", False: "other documents"}
    figures = [
        (f"{split} {what}", counts[what], marks[counts["same_text"]] if what == "documents" else "")
        for split, counts in data["splits"].items()
        for what in ("documents", "tokens")
    ]
    tokenizers = {True: "", None: "", False: "other tokenizer"}[data["same_tokenizer"]]
    figures.append(("vocabulary", data["vocabulary"], tokenizers))
    differing = [(name, pair, mark) for name, pair, mark in figures if mark or pair["first"] != pair["second"]]
    same = [
        f"{formats.count(pair['first'])} {name}"
        for name, pair, mark in figures
        if (name, pair, mark) not in differing and pair["first"] is not None
    ]
    rows = [[name, *_both(pair, formats.count), mark] for name, pair, mark in differing]
    for reason, pair in data["left_out"].items():
        if pair["first"] != pair["second"] and len(rows) < MAX_ROWS:
            rows.append([formats.shorten(f"left out by {reason}", 40), *_both(pair, formats.count), ""])
    table = _table([["data", *labels, ""], *rows], "<>><", indent=0) if rows else ["data: the same"]
    return [*table, *(_wrap(f"{'the same: ' if rows else ''}{', '.join(same)}") if same else [])]


def _training(training: Mapping[str, Any], labels: Sequence[str]) -> list[str]:
    figures = training["figures"]
    if not any(figures["steps"].values()):
        return ["training: neither run has records of one"]
    rows = [["training", *labels]]
    for key, (name, write) in _TRAINING.items():
        pair = figures[key]
        is_told = key == "parameters" and pair["first"] == pair["second"]
        is_told |= key in _SAME_WITH_BEST and figures["best_eval_loss"] == figures["eval_loss"]
        if any(pair.values()) and not is_told:
            rows.append([name, *_both(pair, write)])
    unhealthy = []
    for name, verdicts in training["verdicts"].items():
        if any(verdicts.values()):
            words = [(verdicts[side] or {}).get("verdict", "-") for side in SIDES]
            rows.append(["scales at the start" if name == "start" else name, *words])
            unhealthy += [
                f"{label}: {word}: {verdicts[side]['why']}"
                for side, label, word in zip(SIDES, labels, words, strict=True)
                if word not in ("-", "healthy")
            ]
    lines = _table(rows, "<>>", indent=0)
    lines += [line for text in unhealthy for line in _wrap(formats.shorten(text, 2 * WIDTH - 12))]
    if training["shared"]:
        return [*lines, "  both runs have this training"]
    lines += _curves(training["steps"], labels)
    lines += [line for note in training["notes"] for line in _wrap(f"note: {note}")]
    if training["comparable"] and training["steps"]:
        lines += [line for tag in _LOSSES for line in _wrap(_reached(training, tag, labels))]
    return lines


def _curves(steps: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> list[str]:
    tags = [tag for tag in _LOSSES if any(row[tag][side] is not None for row in steps for side in SIDES)]
    if not tags:
        return []
    rows = [["step", *(cell for _ in tags for cell in (*labels, "change"))]]
    for row in steps:
        groups = [(*_both(row[tag], formats.real), _change(row[tag], formats.real)) for tag in tags]
        rows.append([formats.count(row["step"]), *(cell for group in groups for cell in group)])
    widths, titles = [max(map(len, column)) for column in zip(*rows, strict=True)], ""
    for number, tag in enumerate(tags, 1):
        titles += _LOSSES[tag][0].rjust(sum(width + 2 for width in widths[: 1 + 3 * number]) - 2 - len(titles))
    return ["", titles, *_table(rows, ">" * len(rows[0]), indent=0)]


def _reached(training: Mapping[str, Any], tag: str, labels: Sequence[str]) -> str:
    """Whether the second run reached the first one's last loss, else whether the first did the second's."""
    name, key = _LOSSES[tag]
    last, steps = training["figures"][key], training["reached"][tag]
    if last["first"] is None or last["second"] is None:
        return ""
    first, second = (
        f"{label}'s last {name}, {formats.real(last[side])}" for label, side in zip(labels, SIDES, strict=True)
    )
    if steps["second"] is not None:
        return f"{labels[1]} reached {first}, at step {steps['second']:,}"
    other = f"; {labels[0]} reached {second}, at step {steps['first']:,}" if steps["first"] is not None else ""
    return f"{labels[1]} did not reach {first}{other}"


def _evaluation(evaluation: Mapping[str, Any], tasks: Sequence[str], labels: Sequence[str]) -> list[str]:
    if not evaluation["measures"]:
        return ["evaluation: neither run has one"]
    figures = {figure.key: figure for task in tasks for figure in WORDS[task].figures}
    main = figures[evaluation["main"]]
    rows = [["evaluation", *labels, "change", ""]]
    rows += [
        _measure(figures[key].name, row, figures[key], labels)
        for key, row in evaluation["measures"].items()
        if figures[key].better or row["difference"]
    ]
    sources, baselines = evaluation["sources"], evaluation["baselines"]
    if len(sources) > 1:
        rows += [_measure(f"  of {name}", row, main, labels) for name, row in list(sources.items())[:MAX_ROWS]]
    rows += [_measure(f"  by {name}", row, main, ("", "")) for name, row in baselines.items() if row["difference"]]
    more = [f"  and {len(sources) - MAX_ROWS:,} more sources: --json has all"] if len(sources) > MAX_ROWS else []
    notes = [line for note in evaluation["notes"] for line in _wrap(f"note: {note}")]
    return [*_table(rows, "<>>><", indent=0), *more, *notes]


def _measure(name: str, row: Mapping[str, Any], figure: Figure, labels: Sequence[str]) -> list[str]:
    def write(value: float) -> str:
        return formats.written(value, figure.style)

    better = dict(zip(SIDES, labels, strict=True)).get(row["better"] or "")
    words = f"{better} is better" if better else "" if row["comparable"] or not figure.better else "not comparable"
    change = _change(row, _points if figure.style == "percent" else write)
    return [formats.shorten(name, 24), *_both(row, write), change, words]


def _points(share: float) -> str:
    return f"{100 * share:.2f} points"


def _change(pair: Mapping[str, Any], write: Callable[[float], str]) -> str:
    if pair["first"] is None or pair["second"] is None:
        return ""
    change = pair["second"] - pair["first"]
    return f"{'+' if change > 0 else chr(0x2212) if change < 0 else ''}{write(abs(change))}"


def _both(pair: Mapping[str, Any], write: Callable[[Any], str]) -> list[str]:
    return ["-" if pair[side] is None else write(pair[side]) for side in SIDES]


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _table(rows: Sequence[Sequence[str]], alignment: str, indent: int = 2) -> list[str]:
    """Columns two apart, as wide as their cells, each flush left (`<`) or right (`>`)."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    forms = [f"{{:{side}{max(1, width)}}}" for side, width in zip(alignment, widths, strict=True)]
    return [" " * indent + "  ".join(forms).format(*row).rstrip() for row in rows]
