"""Two runs of a workspace side by side: what was set otherwise, where their artifacts part, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts import Workspace
from pipeline.comparison.opened import Run, have_same, open_run
from pipeline.manifests import describe_differences
from pipeline.reporting.metrics import read_records
from pipeline.reporting.tasks import WORDS, Figure
from pipeline.stages import STAGES

SPLITS = {"train": "augment", "validation": "curate", "test": "curate"}
"""The stage whose documents of a split are encoded."""

CURVES = ("train/loss", "eval/loss", "throughput/tokens_per_second", "seconds", "target_tokens")
MAX_EVALUATIONS, MAX_STEPS = 5, 9
"""Shared evaluations, and steps in all, at which curves are compared."""

ROUNDING = 1e-9
"""Figures whose relative difference is less are the same."""

OF_TOKENS = ("loss", "perplexity", "token_accuracy", "tokens")
"""Figures of a language model that depend on what a token is."""

Curves = dict[str, dict[int, float]]


def compare_runs(workspace: Workspace, names: tuple[str, str]) -> dict[str, Any]:
    """All that `descent diff` says of two runs, as JSON values: `first` and `second` are theirs, None where a run has
    no such figure; `difference` is second less first, and `better` is `first` or `second` where that can be said.

    Raises MissingInputError when there is no such run, StorageError when what it left cannot be read.
    """
    first, second = runs = tuple(open_run(workspace, name) for name in names)
    return {
        "runs": [_described(run) for run in runs],
        "configuration": _settings(first, second),
        "stages": _stages(first, second),
        "data": _data(first, second),
        "training": _training(first, second),
        "evaluation": _evaluation(first, second),
    }


def _described(run: Run) -> dict[str, Any]:
    told = ("name", "started", "finished", "exit_code", "message")
    last = next((stage.name for stage in reversed(STAGES) if stage.name in run.state["stages"]), None)
    return {
        "outcome": run.outcome,
        "last_stage": last,
        "task": run.settings["model.task"],
        **{name: run.state[name] for name in told if name in run.state},
    }


def _pair(first: Any, second: Any) -> dict[str, Any]:
    return {"first": first, "second": second}


def _settings(first: Run, second: Run) -> list[dict[str, Any]]:
    rows = []
    sides = (("first", first), ("second", second))
    for key in [*first.settings, *(key for key in second.settings if key not in first.settings)]:
        given = {side: run.settings[key] for side, run in sides if key in run.settings}
        is_same = len(given) == 2 and given["first"] == given["second"]
        if not is_same and key not in ("run.name", "run.workspace"):
            # One may be runtime beside the settings of one run, and decide about the result beside those of the other.
            known = [key in run.runtime for _, run in sides if key in run.settings and run.runtime]
            rows.append({"key": key, "runtime": bool(known) and all(known), **given})
    return rows


def _stages(first: Run, second: Run) -> list[dict[str, Any]]:
    """For each stage that either run has: their keys; whether the artifact is `shared`, has the `same result` under
    another key, `differs`, is of `one only` or `missing` from the workspace; and why keys differ, in the words of a
    plan: `causes` are the reasons of the stage's own, without what it was given."""
    rows = []
    for stage in (stage.name for stage in STAGES):
        sides = [run.identities.get(stage) for run in (first, second)]
        keys = [run.key(stage) for run in (first, second)]
        if not any(keys):
            continue
        reasons: list[str] = []
        causes: list[str] = []
        if keys[0] == keys[1]:
            relation = "shared"
        elif not all(keys):
            relation = "one only"
        elif sides[0] is None or sides[1] is None:
            relation = "missing"
        else:
            reasons = describe_differences(sides[0], sides[1])
            causes = describe_differences({**sides[0], "inputs": {}}, {**sides[1], "inputs": {}})
            digests = [run.digest(stage) for run in (first, second)]
            relation = "same result" if digests[0] is not None and digests[0] == digests[1] else "differs"
        rows.append({"stage": stage, **_pair(*keys), "relation": relation, "reasons": reasons, "causes": causes})
    return rows


def _data(first: Run, second: Run) -> dict[str, Any]:
    splits = {}
    for split, stage in SPLITS.items():
        counts = [run.summary("encode").get("splits", {}).get(split, {}) for run in (first, second)]
        figures = {name: _pair(*(count.get(name) for count in counts)) for name in ("documents", "tokens")}
        splits[split] = {**figures, "same_text": have_same(first, second, stage, split)}
    left_out = {}
    for stage, what in (("ingest", "rejected"), ("curate", "dropped"), ("pack", "dropped")):
        counts = [run.summary(stage).get(what) or {} for run in (first, second)]
        for reason in dict.fromkeys([*counts[0], *counts[1]]):
            left_out[f"{stage}: {reason}"] = _pair(*(count.get(reason, 0) for count in counts))
    return {
        "splits": splits,
        "vocabulary": _pair(*(run.summary("tokenizer").get("vocab_size") for run in (first, second))),
        "same_tokenizer": have_same(first, second, "tokenizer"),
        "left_out": left_out,
    }


def _read_curves(path: Path | None) -> Curves:
    curves: Curves = {tag: {} for tag in CURVES}
    for record in read_records(path) if path else ():
        step = record.get("step")
        for tag, curve in curves.items():
            value = record.get(tag)
            if isinstance(step, int) and isinstance(value, (int, float)) and math.isfinite(value):
                curve[step] = value
    return curves


def _training(first: Run, second: Run) -> dict[str, Any]:
    """Losses of both at shared steps, and how each training went."""
    curves = [_read_curves(run.records) for run in (first, second)]
    notes = _training_notes(first, second, curves)
    shared = {tag: sorted(curves[0][tag].keys() & curves[1][tag].keys()) for tag in ("train/loss", "eval/loss")}
    steps = set(_spread(shared["eval/loss"], MAX_EVALUATIONS))
    steps |= set(_spread(shared["train/loss"], MAX_STEPS - len(steps)))
    rows = [
        {"step": step, **{tag: _pair(*(curve[tag].get(step) for curve in curves)) for tag in shared}}
        for step in sorted(steps)
    ]
    progress = [_progress(run, curve) for run, curve in zip((first, second), curves, strict=True)]
    keys = first.key("train"), second.key("train")
    return {
        "shared": keys[0] is not None and keys[0] == keys[1],
        "steps": rows,
        "comparable": not any(note["bars"] for note in notes),
        "notes": [note["text"] for note in notes],
        "figures": {name: _pair(*(figures[name] for figures in progress)) for name in progress[0]},
        "verdicts": {
            name: _pair(*(run.summary(stage).get(key) for run in (first, second)))
            for name, stage, key in (("start", "model", "start"), ("gradients", "train", "gradients"))
        },
        "reached": {tag: _reached(tag, curves) for tag in shared},
    }


def _spread(steps: Sequence[int], limit: int) -> list[int]:
    """At most so many of the steps, the last among them, evenly apart."""
    if len(steps) <= limit:
        return list(steps)
    return [steps[round((i + 1) * len(steps) / limit) - 1] for i in range(limit)]


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


def _reached(tag: str, curves: Sequence[Curves]) -> dict[str, Any]:
    """The first step at which each reached the other's last loss, None where it did not."""

    def step(own: Curves, other: Curves) -> int | None:
        target = next(reversed(other[tag].values()), -math.inf)
        return next((step for step, value in own[tag].items() if value <= target), None)

    return _pair(step(curves[0], curves[1]), step(curves[1], curves[0]))


def _training_notes(first: Run, second: Run, curves: Sequence[Curves]) -> list[dict[str, Any]]:
    """What to know when curves are compared, and whether it bars comparing them."""

    def differ(*names: str) -> bool:
        return any(first.settings.get(name) != second.settings.get(name) for name in names)

    is_partial = any(run.settings.get("train.eval_batches") for run in (first, second))
    windows = ("train.eval_batches", "train.global_batch_size", "pack.block_size") if is_partial else ()
    a_step = [next(reversed(curve["target_tokens"].values()), 0) / max(curve["seconds"], default=1) for curve in curves]
    found = {
        "the tasks differ": differ("model.task"),
        "the tokenizers differ, so losses are of other tokens": _is_of_tokens(first)
        and have_same(first, second, "tokenizer") is False,
        "the losses are defined otherwise": differ("train.regression_loss", "train.huber_delta"),
        "the validation documents differ": have_same(first, second, "curate", "validation") is False,
        "validation covers other parts of its text": differ(*windows),
    }
    notes = [{"text": text, "bars": True} for text, holds in found.items() if holds]
    if all(a_step) and abs(math.log(a_step[0] / a_step[1])) > 0.01:
        sizes = [
            f"{size:,.0f} targets in {run.state['name']}" for size, run in zip(a_step, (first, second), strict=True)
        ]
        text = f"a step has {', '.join(sizes)}"
        notes.append({"text": text, "bars": False})
    if differ("train.logging_steps"):
        text = "training losses are means since the record before: train.logging_steps differs"
        notes.append({"text": text, "bars": False})
    return notes


def _is_of_tokens(run: Run) -> bool:
    return bool(run.settings["model.task"] == "causal_lm")


def _evaluation(first: Run, second: Run) -> dict[str, Any]:
    """Every figure of the test split, and the main one for each source and baseline."""
    words = [WORDS[run.settings["model.task"]] for run in (first, second)]
    main, figures = words[0].main, {figure.key: figure for word in words for figure in word.figures}
    notes, unlike = _evaluation_notes(first, second)
    tests, sources, baselines = (
        [run.summary("evaluate").get(name) or {} for run in (first, second)]
        for name in ("test", "sources", "baselines")
    )

    def measured(figure: Figure, sides: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        first, second = (side.get(figure.key) for side in sides)
        difference = None
        if first is not None and second is not None:
            # Not what sums in another order come to.
            difference = 0.0 if math.isclose(first, second, rel_tol=ROUNDING) else second - first
        better = None
        if difference and figure.better and figure.key not in unlike:
            better = "second" if (difference < 0) == (figure.better == "lower") else "first"
        is_comparable = figure.key not in unlike
        return {**_pair(first, second), "difference": difference, "better": better, "comparable": is_comparable}

    def of_each(groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        names = dict.fromkeys([*groups[0], *groups[1]])
        return {name: measured(main, [group.get(name, {}) for group in groups]) for name in names}

    return {
        "main": main.key,
        "measures": {key: measured(of, tests) for key, of in figures.items() if key in tests[0] | tests[1]},
        "sources": of_each(sources),
        "baselines": of_each(baselines),
        "notes": notes,
    }


def _evaluation_notes(first: Run, second: Run) -> tuple[list[str], set[str]]:
    """What to know when evaluations are compared, and the figures that cannot be."""
    every = {figure.key for words in WORDS.values() for figure in words.figures}
    tasks = [run.settings["model.task"] for run in (first, second)]
    if tasks[0] != tasks[1]:
        return [f"the tasks differ ({tasks[0]}, {tasks[1]}): no figure can be compared"], every
    if have_same(first, second, "curate", "test") is False:
        bits = "; bits per byte come nearest" if _is_of_tokens(first) else ""
        return [f"the held-out documents differ: so figures are of other text{bits}"], every
    if _is_of_tokens(first) and have_same(first, second, "tokenizer") is False:
        unlike = "loss, perplexity and token accuracy are of other tokens"
        return [f"the tokenizers differ: {unlike}; compare bits per byte"], set(OF_TOKENS)
    counts = [run.summary("evaluate").get("test", {}).get("documents") for run in (first, second)]
    if None not in counts and counts[0] != counts[1]:
        return [f"{counts[0]:,} and {counts[1]:,} of the held-out documents have labels that training knows"], set()
    return [], set()
