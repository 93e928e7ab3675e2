"""What a comparison of runs says, as rows of words that its text and its page share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.evaluation.metrics import Figure
from pipeline.reporting import formats
from pipeline.telemetry.verdicts import verdicts_of, worst

LONGEST_LABEL = 10
MAX_ROWS = 16
"""Settings, reasons or sources that are listed one by one."""

MAX_STEPS, MAX_EVALUATIONS = 12, 5
"""Steps at which losses are shown, and those of them that are validations."""

LOSSES = {"train/loss": ("training loss", "train_loss"), "eval/loss": ("validation loss", "eval_loss")}
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
Cells = list[str]


def labels_of(comparison: Mapping[str, Any]) -> Labels:
    """The names of the runs, or letters where they are long or alike."""
    names = [run["name"] for run in comparison["runs"]]
    are_labels = max(map(len, names)) <= LONGEST_LABEL and len({*names}) == len(names)
    return names if are_labels else [_letter(number) for number in range(len(names))]


def _letter(number: int) -> str:
    """A, B, and so on to Z, then AA."""
    return (_letter(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


def setting_cells(row: Mapping[str, Any]) -> Cells:
    """A setting's value in each run, as JSON."""
    pairs = zip(row["values"], row["has"], strict=True)
    return [json.dumps(value, ensure_ascii=False) if is_given else "(not given)" for value, is_given in pairs]


def stage_sentences(stages: Iterable[Mapping[str, Any]], labels: Labels) -> list[str]:
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
    return [*shared, *parted, *texts.values()]


def _causes(row: Mapping[str, Any], labels: Labels) -> list[str]:
    """Why a stage's artifacts differ: one text for all runs with the same reasons, with their names if they are more
    than two."""
    runs: dict[str, list[str]] = {}
    for label, causes in zip(labels, row["causes"], strict=True):
        if causes:
            runs.setdefault("; ".join(causes[:MAX_ROWS]), []).append(label)
    return [f" of {', '.join(of)}: {why}" if len(labels) > 2 else f": {why}" for why, of in runs.items()]


def data_rows(data: Mapping[str, Any]) -> tuple[list[Cells], str]:
    """Counts that differ, each with a remark, and those that are the same, in words."""
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
    rows = [[name, *written_cells(values, formats.count), mark] for name, values, mark in differing]
    for reason, values in data["left_out"].items():
        if len({*values}) > 1 and len(rows) < MAX_ROWS:
            rows.append([f"left out by {reason}", *written_cells(values, formats.count), ""])
    return rows, ", ".join(same)


def training_rows(training: Mapping[str, Any]) -> list[Cells]:
    """How the trainings went."""
    figures, rows = training["figures"], []
    for key, (name, write) in _TRAINING.items():
        values = figures[key]
        is_known = key == "parameters" and len({*values}) == 1
        is_known |= key in _SAME_WITH_BEST and figures["best_eval_loss"] == figures["eval_loss"]
        if any(values) and not is_known:
            rows.append([name, *written_cells(values, write)])
    return rows


def shown_steps(steps: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], str]:
    """The recorded steps that are shown, of many the first, the last of each run, and others evenly apart, rather those
    that runs share; and what is to be said of them."""
    chosen = {row["step"] for row in steps}
    if len(steps) > MAX_STEPS:
        of_runs = range(len(steps[0]["train/loss"]))
        by_run = [[row["step"] for row in steps if any(row[tag][i] is not None for tag in LOSSES)] for i in of_runs]
        chosen = {steps[0]["step"], *(own[-1] for own in by_run if own)}
        shared = {tag: [row["step"] for row in steps if _is_shared(row[tag])] for tag in LOSSES}
        chosen |= {*_spread(shared["eval/loss"], min(MAX_EVALUATIONS, MAX_STEPS - len(chosen)))}
        for others in (shared["train/loss"], [row["step"] for row in steps]):
            chosen |= {*_spread(sorted({*others} - chosen), max(0, MAX_STEPS - len(chosen)))}
    shown = [row for row in steps if row["step"] in chosen]
    notes = [f"{len(shown)} of {len(steps):,} recorded steps; --json has all"] if len(shown) < len(steps) else []
    if any(None in row[tag] for row in shown for tag in LOSSES if any(value is not None for value in row[tag])):
        notes.append("-: the run has no record of that step")
    return shown, "; ".join(notes)


def _is_shared(values: Sequence[float | None]) -> bool:
    return sum(value is not None for value in values) > 1


def _spread(steps: Sequence[int], limit: int) -> list[int]:
    """At most so many of the steps, the last among them, evenly apart."""
    if len(steps) <= limit:
        return list(steps)
    return [steps[round((i + 1) * len(steps) / limit) - 1] for i in range(limit)]


def reached_sentences(training: Mapping[str, Any], labels: Labels) -> list[str]:
    """Whether runs reached the first one's last losses, where their curves can be compared."""
    if not (training["comparable"] and training["steps"]):
        return []
    others = range(1, len(labels))
    return [words for tag in LOSSES for i in others if (words := _reached(training, tag, labels, i))]


def _reached(training: Mapping[str, Any], tag: str, labels: Labels, i: int) -> str:
    """Whether run `i` reached the first one's last loss, else whether the first did that of run `i`."""
    name, key = LOSSES[tag]
    last, steps = training["figures"][key], training["reached"][tag]
    if last[0] is None or last[i] is None:
        return ""
    first, own = (f"{labels[j]}'s last {name}, {formats.real(last[j])}" for j in (0, i))
    if steps[i][0] is not None:
        return f"{labels[i]} reached {first}, at step {steps[i][0]:,}"
    other = f"; {labels[0]} reached {own}, at step {steps[0][i]:,}" if steps[0][i] is not None else ""
    return f"{labels[i]} did not reach {first}{other}"


def evaluation_rows(evaluation: Mapping[str, Any], labels: Labels) -> list[Cells]:
    """Figures of the test split, by source, of baselines, and of benchmarks, and the worst verdict on each result: a
    name, a cell for each run, of two their difference, and which is better."""
    figures = {key: Figure(**figure) for key, figure in evaluation["figures"].items()}
    main = figures[evaluation["main"]]
    rows = [
        _measure(figures[key].name, row, figures[key], labels)
        for key, row in evaluation["measures"].items()
        if figures[key].better or any(row["differences"])
    ]
    sources = list(evaluation["sources"].items())
    rows += [_measure(f"  of {name}", row, main, labels) for name, row in sources[:MAX_ROWS] if len(sources) > 1]
    rows += [
        _measure(f"  by {name}", row, replace(main, better=""), labels)
        for name, row in evaluation["baselines"].items()
        if any(row["differences"])
    ]
    rows += [
        _measure(name, row, Figure(name, name, better=row["better"]), labels)
        for name, row in list(evaluation["benchmarks"].items())[:MAX_ROWS]
    ]
    found = [worst(verdicts_of(verdicts)) for verdicts in evaluation["health"]]
    if any(found):
        cells = ["-" if one is None else one.verdict for one in found]
        rows.append(["health of the result", *cells, *if_two(labels, ""), ""])
    return rows


def result_sentence(evaluation: Mapping[str, Any], labels: Labels) -> str:
    """The worst verdict on each result by its name; "" where there is nothing to say."""
    owners: dict[str, list[str]] = {}
    for label, verdicts in zip(labels, evaluation["health"], strict=True):
        one = worst(verdicts_of(verdicts))
        if one is not None and not one.is_healthy:
            owners.setdefault(one.what.replace("_", " "), []).append(label)
    return "; ".join(f"the result of {' and '.join(of)}: {what}" for what, of in owners.items())


def _measure(name: str, row: Mapping[str, Any], figure: Figure, labels: Labels) -> Cells:
    def write(value: float) -> str:
        return formats.written(value, figure.style)

    best = None if row["best"] is None else f"{labels[row['best']]} is {'better' if len(labels) == 2 else 'best'}"
    words = best or row["doubt"] or ("" if row["comparable"] or not figure.better else "not comparable")
    change = change_in_words(row["values"], _points if figure.style == "percent" else write)
    return [name, *written_cells(row["values"], write), *if_two(labels, change), words]


def _points(share: float) -> str:
    return f"{100 * share:.2f} points"


def change_in_words(values: Sequence[float | None], write: Callable[[float], str]) -> str:
    """From the first run's value to the second's."""
    first, second = values[:2]
    if first is None or second is None:
        return ""
    change = second - first
    return f"{'+' if change > 0 else chr(0x2212) if change < 0 else ''}{write(abs(change))}"


def if_two(labels: Labels, cell: str) -> Cells:
    """A cell of a column that only a comparison of two has."""
    return [cell] if len(labels) == 2 else []


def none_of(labels: Labels) -> str:
    """What has something that no run has."""
    return "neither run" if len(labels) == 2 else "none of the runs"


def written_cells(values: Iterable[Any], write: Callable[[Any], str]) -> Cells:
    """Values as `write` writes them, and what is missing as a dash."""
    return ["-" if value is None else write(value) for value in values]
