"""Runs of a workspace side by side: what was set otherwise, where their artifacts part, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

from pipeline.comparison.figure_noise import Between, Noise
from pipeline.comparison.recorded_run import Run, have_same, open_run
from pipeline.engine.artifacts import Workspace
from pipeline.engine.differences import describe_differences, differing
from pipeline.evaluation.benchmarks import QUANTILE, Score
from pipeline.evaluation.metrics import METRIC_OF_KEY, Figure
from pipeline.tasks import task_named
from pipeline.training.recording.metrics_file import read_records, verdicts_so_far

SPLITS = {"train": "augment", "validation": "curate", "test": "curate"}
"""The stage whose documents of a split are encoded."""

LOSS_TAGS = ("train/loss", "eval/loss")
CURVES = (*LOSS_TAGS, "throughput/tokens_per_second", "seconds", "target_tokens")
WITHIN, NO_INTERVAL = "within its interval", "no interval"
"""Why of two figures none is the better one: other documents of the same kind might turn it, or it is not known."""

ROUNDING = 1e-9
"""Figures whose relative difference is less are the same."""

Runs = Sequence[Run]
Curves = dict[str, dict[int, float]]


def compare_runs(workspace: Workspace, names: Sequence[str]) -> dict[str, Any]:
    """All that `descent diff` says of two runs or more, as JSON values.

    Raises MissingInputError when there is no such run, StorageError when what it left cannot be read.
    """
    return compare_opened(workspace, [open_run(workspace, name) for name in names])


def compare_opened(workspace: Workspace, runs: Runs) -> dict[str, Any]:
    """The same of runs that were opened.

    A list of figures has one for each run, or None. `differences` are from the first run's. `best` is the index of the
    best run, or None where there is none, be it that the difference may be chance (`doubt`).
    """
    stages = [stage.name for stage in workspace.stages]
    return {
        "runs": [_described(run, stages) for run in runs],
        "configuration": _settings(runs),
        "stages": _stages(runs, stages),
        "data": _data(runs, stages),
        "training": _training(runs),
        "evaluation": _evaluation(runs),
    }


def _described(run: Run, stages: Sequence[str]) -> dict[str, Any]:
    shown = ("name", "started", "finished", "exit_code", "message")
    last = next((stage for stage in reversed(stages) if stage in run.state["stages"]), None)
    return {
        "outcome": run.outcome,
        "last_stage": last,
        "task": run.settings["model.task"],
        **{name: run.state[name] for name in shown if name in run.state},
    }


def _settings(runs: Runs) -> list[dict[str, Any]]:
    """Settings that are not the same in all runs; `has` says which runs have them at all."""
    rows = []
    for key in differing([run.settings for run in runs]):
        # One may be runtime beside the settings of one run, and decide about the result beside those of another.
        known = [key in run.runtime for run in runs if key in run.settings and run.runtime]
        values, has = [run.settings.get(key) for run in runs], [key in run.settings for run in runs]
        rows.append({"key": key, "runtime": bool(known) and all(known), "values": values, "has": has})
    return rows


def _stages(runs: Runs, stages: Sequence[str]) -> list[dict[str, Any]]:
    """The keys of each stage, and how its artifacts relate: they are `shared`, have the `same result` under other keys,
    `differs`, are of `one only`, or one is `missing` from the workspace. `reasons` say how each differs from the first,
    in the words of a plan; `causes` are those that do not come from its inputs."""
    rows = []
    for stage in stages:
        keys = [run.key(stage) for run in runs]
        identities = [run.identities.get(stage) for run in runs]
        known = [identity for identity in identities if identity is not None]
        digests = {run.digest(stage) for run, key in zip(runs, keys, strict=True) if key}
        if len([*filter(None, keys)]) == 1:
            relation = "one only"
        elif len({*filter(None, keys)}) == 1:
            relation = "shared"
        elif any(key and not identity for key, identity in zip(keys, identities, strict=True)):
            relation = "missing"
        else:
            relation = "same result" if len(digests) == 1 and None not in digests else "differs"
        reasons = [describe_differences(known[0], one) if one else [] for one in identities]
        causes = [
            describe_differences({**known[0], "inputs": {}}, {**one, "inputs": {}}) if one else [] for one in identities
        ]
        if any(keys):
            rows.append({"stage": stage, "keys": keys, "relation": relation, "reasons": reasons, "causes": causes})
    return rows


def _data(runs: Runs, stages: Sequence[str]) -> dict[str, Any]:
    splits = {}
    for split, stage in SPLITS.items():
        counts = [run.summary("encode").get("splits", {}).get(split, {}) for run in runs]
        figures = {name: [count.get(name) for count in counts] for name in ("documents", "tokens")}
        splits[split] = {**figures, "same_text": have_same(runs, stage, split)}
    left_out = {}
    for stage, what in product(stages, ("rejected", "dropped")):
        counts = [run.summary(stage).get(what) or {} for run in runs]
        for reason in dict.fromkeys(reason for count in counts for reason in count):
            left_out[f"{stage}: {reason}"] = [count.get(reason, 0) for count in counts]
    return {
        "splits": splits,
        "vocabulary": [run.summary("tokenizer").get("vocab_size") for run in runs],
        "same_tokenizer": have_same(runs, "tokenizer"),
        "left_out": left_out,
    }


def _read_curves(path: Path | None) -> Curves:
    curves: Curves = {tag: {} for tag in CURVES}
    for record in read_records(path) if path else ():
        for tag, curve in curves.items():
            value = record.get(tag)
            if isinstance(value, (int, float)) and math.isfinite(value):
                curve[record["step"]] = value
    return curves


def _training(runs: Runs) -> dict[str, Any]:
    """Losses at every recorded step, None where a run has no record of it, and how each training went.

    `reached[tag][i][j]` is the first step at which run i reached the last loss of run j. It is None where it did not,
    and for i = j.
    """
    curves = [_read_curves(run.records) for run in runs]
    notes = _training_notes(runs, curves)
    steps = {step for curve in curves for tag in LOSS_TAGS for step in curve[tag]}
    rows = [
        {"step": step, **{tag: [curve[tag].get(step) for curve in curves] for tag in LOSS_TAGS}}
        for step in sorted(steps)
    ]
    progress = [_progress(run, curve) for run, curve in zip(runs, curves, strict=True)]
    keys = {run.key("train") for run in runs}
    return {
        "shared": len(keys) == 1 and None not in keys,
        "steps": rows,
        "comparable": not any(note["bars"] for note in notes),
        "notes": [note["text"] for note in notes],
        "figures": {name: [figures[name] for figures in progress] for name in progress[0]},
        "health": {
            "model": [run.summary("model").get("health") for run in runs],
            "train": [_health_of_training(run) for run in runs],
        },
        "reached": {
            tag: [[None if other is own else _reached(tag, own, other) for other in curves] for own in curves]
            for tag in LOSS_TAGS
        },
    }


def _health_of_training(run: Run) -> list[Any] | None:
    """The verdicts on a training; of one that is not over, up to its last record."""
    if run.records is None or "train" in run.manifests:
        found: list[Any] | None = run.summary("train").get("health")
        return found
    return [verdict.as_json() for verdict in verdicts_so_far(run.folders["train"])] or None


def _progress(run: Run, curves: Curves) -> dict[str, Any]:
    """How a training went, to its end or as far as it came."""
    summary, evaluations = run.summary("train"), curves["eval/loss"]
    best = min(evaluations, key=lambda step: evaluations[step], default=None)

    def last(tag: str) -> float | None:
        return next(reversed(curves[tag].values()), None)

    return {
        "parameters": summary.get("parameters") or run.summary("model").get("total"),
        "steps": summary.get("steps") or next(reversed(curves["seconds"]), None),
        "target_tokens": summary.get("target_tokens") or last("target_tokens"),
        "seconds": summary.get("seconds") or last("seconds"),
        "tokens_per_second": summary.get("tokens_per_second") or last("throughput/tokens_per_second"),
        "peak_memory_bytes": summary.get("peak_memory_bytes"),
        "skipped_steps": summary.get("skipped_steps"),
        "train_loss": last("train/loss"),
        "eval_loss": last("eval/loss"),
        "best_eval_loss": None if best is None else evaluations[best],
        "best_eval_step": best,
    }


def _reached(tag: str, own: Curves, other: Curves) -> int | None:
    """The first step at which a run reached another's last loss."""
    target = next(reversed(other[tag].values()), -math.inf)
    return next((step for step, value in own[tag].items() if value <= target), None)


def _training_notes(runs: Runs, curves: Sequence[Curves]) -> list[dict[str, Any]]:
    """What to know when curves are compared, and whether it bars comparing them."""

    def differ(*names: str) -> bool:
        return any(run.settings.get(name) != runs[0].settings.get(name) for run in runs for name in names)

    is_partial = any(run.settings.get("train.eval_batches") for run in runs)
    windows = ("train.eval_batches", "train.global_batch_size", "pack.block_size") if is_partial else ()
    found = {
        "the tasks differ": differ("model.task"),
        "the tokenizers differ, so losses are of other tokens": all(map(_is_of_tokens, runs))
        and have_same(runs, "tokenizer") is False,
        "the losses are defined otherwise": differ("train.regression_loss", "train.huber_delta"),
        "the validation documents differ": have_same(runs, "curate", "validation") is False,
        "validation covers other parts of its text": differ(*windows),
    }
    notes = [{"text": text, "bars": True} for text, holds in found.items() if holds]
    last = [max(curve["seconds"], default=0) or 1 for curve in curves]
    a_step = [
        next(reversed(curve["target_tokens"].values()), 0) / step for curve, step in zip(curves, last, strict=True)
    ]
    if all(a_step) and max(a_step) > 1.01 * min(a_step):
        sizes = [f"{size:,.0f} targets in {run.state['name']}" for size, run in zip(a_step, runs, strict=True)]
        notes.append({"text": f"a step has {', '.join(sizes)}", "bars": False})
    if differ("train.logging_steps"):
        text = "training losses are means since the record before: train.logging_steps differs"
        notes.append({"text": text, "bars": False})
    return notes


def _is_of_tokens(run: Run) -> bool:
    return task_named(run.settings["model.task"]).words.is_generative


def _evaluation(runs: Runs) -> dict[str, Any]:
    """Every figure of the test split, and the main one for each source and baseline."""
    words = [task_named(run.settings["model.task"]).words_for(run.summary("evaluate")) for run in runs]
    is_whole = [not run.summary("evaluate").get("withheld") for run in runs]
    main = words[is_whole.index(True) if any(is_whole) else 0].main
    figures = {figure.key: figure for word in words for figure in word.figures}
    notes, unlike = _evaluation_notes(runs, figures.keys())
    tests, sources, baselines = (
        [run.summary("evaluate").get(name) or {} for run in runs] for name in ("test", "sources", "baselines")
    )

    noise = Noise(runs)

    def measured(figure: Figure, groups: Sequence[Mapping[str, Any]], source: str | None = None) -> dict[str, Any]:
        row = _measured([group.get(figure.key) for group in groups], figure, figure.key not in unlike)
        return _judged(row, figure, noise.of(figure.key, groups, source))

    def of_each(groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        names = dict.fromkeys(name for group in groups for name in group)
        return {name: measured(main, [group.get(name, {}) for group in groups], name) for name in names}

    return {
        "main": main.key,
        "figures": {key: asdict(figure) for key, figure in figures.items()},
        "measures": {key: measured(of, tests) for key, of in figures.items() if any(key in test for test in tests)},
        "sources": of_each(sources),
        "baselines": {
            name: _measured([one.get(name, {}).get(main.key) for one in baselines], replace(main, better=""), True)
            for name in dict.fromkeys(name for one in baselines for name in one)
        },
        "benchmarks": _benchmarks(runs),
        "health": [run.summary("evaluate").get("health") for run in runs],
        "notes": notes,
    }


def _benchmarks(runs: Runs) -> dict[str, Any]:
    """Each score, as `_measured`, with its standard errors. None is the best where the two best differ by less than
    1.96 standard errors of their difference, or where the runs answered other numbers of documents."""
    of_runs = []
    for run in runs:
        scores = [Score(**one) for one in run.summary("evaluate").get("benchmarks") or ()]
        of_runs.append({f"{score.task} {score.metric}": score for score in scores})
    rows = {}
    for name in dict.fromkeys(name for scores in of_runs for name in scores):
        found = [scores.get(name) for scores in of_runs]
        known = [score for score in found if score is not None]
        values = [None if score is None else score.value for score in found]
        errors = [None if score is None else score.standard_error for score in found]
        better = known[0].better
        is_comparable = len({score.documents for score in known}) == 1
        row = _measured(values, Figure(name, name, better=better), is_comparable)
        if row["best"] is not None and not _is_clearly_best(known, better):
            row |= {"best": None, "doubt": WITHIN}
        rows[name] = row | {"standard_errors": errors, "better": better}
    return rows


def _is_clearly_best(scores: Sequence[Score], better: str) -> bool:
    best, second = sorted(scores, key=lambda score: score.value, reverse=better == "higher")[:2]
    noise = math.hypot(best.standard_error or 0.0, second.standard_error or 0.0)
    return abs(best.value - second.value) > QUANTILE * noise


def _measured(values: list[float | None], figure: Figure, is_comparable: bool) -> dict[str, Any]:
    """A figure of all runs. Values that differ by rounding alone count as the same, and neither is the best."""

    def is_same(one: float, other: float) -> bool:
        return math.isclose(one, other, rel_tol=ROUNDING)

    first = values[0]
    differences = [
        None if value is None or first is None else 0.0 if is_same(value, first) else value - first for value in values
    ]
    best = None
    known = sorted((value for value in values if value is not None), reverse=figure.better == "higher")
    if is_comparable and figure.better and len(known) > 1 and not is_same(known[0], known[1]):
        best = values.index(known[0])
    return {
        "values": values,
        "differences": [None, *differences[1:]],
        "best": best,
        "comparable": is_comparable,
        "interval": None,
        "doubt": "",
    }


def _judged(row: dict[str, Any], figure: Figure, interval_of: Between) -> dict[str, Any]:
    """None is the best where the `interval` of the best figure less the second best one has 0 in it, or is not known;
    `doubt` then says so."""
    if row["best"] is None:
        return row
    known = [index for index, value in enumerate(row["values"]) if value is not None]
    best, second = sorted(known, key=lambda index: row["values"][index], reverse=figure.better == "higher")[:2]
    interval = interval_of(second, best)
    if interval is None:
        return row | {"best": None, "doubt": NO_INTERVAL}
    low, high = interval
    is_clear = high < 0 if figure.better == "lower" else low > 0
    return row | {"interval": [low, high]} | ({} if is_clear else {"best": None, "doubt": WITHIN})


def _evaluation_notes(runs: Runs, every: Collection[str]) -> tuple[list[str], set[str]]:
    """What to know when evaluations are compared, and which of the figures `every` cannot be compared."""
    losing = [run.state["name"] for run in runs if run.summary("evaluate").get("withheld")]
    has_bits = _is_of_tokens(runs[0]) and len(losing) + 1 < len(runs)
    tasks = dict.fromkeys(run.settings["model.task"] for run in runs)
    if len(tasks) > 1:
        return [f"the tasks differ ({', '.join(tasks)}): no figure can be compared"], {*every}
    if have_same(runs, "curate", "test") is False:
        bits = "; bits per byte come nearest" if has_bits else ""
        return [f"the held-out documents differ: so figures are of other text{bits}"], {*every}
    if _is_of_tokens(runs[0]) and have_same(runs, "tokenizer") is False:
        of_tokens = ["loss", *(key for key, metric in METRIC_OF_KEY.items() if metric.depends_on_tokenizer)]
        *others, last = (key.replace("_", " ") for key in of_tokens)
        unlike = f"{', '.join(others)} and {last} are of other tokens"
        lost = [f"that of {' and '.join(losing)} loses text, so no bits per byte"] if losing else []
        advice = ["compare bits per byte"] if has_bits else []
        return ["; ".join([f"the tokenizers differ: {unlike}", *lost, *advice])], {*of_tokens, "tokens"}
    counts = [run.summary("evaluate").get("test", {}).get("documents") for run in runs]
    if None not in counts and len({*counts}) > 1:
        numbers = " and ".join(f"{count:,}" for count in counts)
        return [f"{numbers} of the held-out documents have labels that training knows"], set()
    return [], set()
