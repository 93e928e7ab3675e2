"""Reads what a training has recorded: `metrics.jsonl`, `facts.json` and `health.jsonl`. Imports nothing heavy."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.panel import HealthPanel
from pipeline.telemetry.rules import RULES
from pipeline.telemetry.verdicts import Verdict, by_severity, last_verdicts, worst

METRICS = "metrics.jsonl"
FACTS = "facts.json"
"""The HealthFacts of a training, in its work folder from its first step on."""


_JUDGED: dict[Path, tuple[HealthPanel, int, dict[str, Any]]] = {}
"""Of the training that was judged last: how many records the panel has seen, and the last of them."""


def parse_record(line: bytes) -> dict[str, Any] | None:
    """The step and the values of one line; None when it is no record, such as a line that a kill cut short."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) and isinstance(values.get("step"), int) else None


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file, in order; none when it is missing."""
    if path.is_file():
        with path.open("rb") as file:
            yield from (record for line in file if (record := parse_record(line)) is not None)


def is_whole(record: Mapping[str, Any] | None) -> bool:
    """Whether all values of a record are finite numbers."""
    return record is not None and all(isinstance(one, (int, float)) and math.isfinite(one) for one in record.values())


def read_metrics(work: Path) -> list[dict[str, Any]]:
    """The whole records of `metrics.jsonl`, in order; none where it is gone."""
    return [record for record in read_records(work / METRICS) if is_whole(record)]


def read_facts(work: Path) -> HealthFacts | None:
    """What is known of a training before its first step; None where that cannot be read."""
    try:
        return HealthFacts.from_json(json.loads((work / FACTS).read_bytes()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def verdicts_so_far(work: Path) -> list[Verdict]:
    """The verdicts after the last record of a training that is not over, worst first, and those on what no record
    holds. Of one without `facts.json`, the verdicts that were recorded when they changed."""
    changed, facts = last_verdicts(work), read_facts(work)
    if facts is None:
        return changed
    judged = {rule.what for rule in RULES}
    events = [verdict for verdict in changed if verdict.what not in judged]
    return by_severity([*events, *_panel_of(work, facts).verdicts(is_over=False)])


def _panel_of(work: Path, facts: HealthFacts) -> HealthPanel:
    """A panel that has seen the records. Who watches a training has only the new ones judged: 10,000 take 5 seconds."""
    records = read_metrics(work)
    panel, seen, last = _JUDGED.get(work, (HealthPanel(facts), 0, {}))
    if panel.facts != facts or seen > len(records) or (seen and records[seen - 1] != last):  # it went back
        panel, seen = HealthPanel(facts), 0
    for record in records[seen:]:
        panel.add(record)
    _JUDGED.clear()
    if records:
        _JUDGED[work] = panel, len(records), records[-1]
    return panel


def last_figures(work: Path) -> dict[str, float]:
    """The `steps` of a training that is not over, `final_loss` and `eval_loss`, by its last records; what there is."""
    found: dict[str, float] = {}
    for record in read_metrics(work):
        of_record = {"steps": "step", "final_loss": "train/loss", "eval_loss": "eval/loss"}
        found |= {name: record[tag] for name, tag in of_record.items() if tag in record}
    return found


def progress_line(work: Path) -> str:
    """How far a training that is not over has come, and the name of its worst verdict; "" before its first record.

    Reads verdicts that were recorded: judging all records anew would take too long for a list of many runs.
    """
    losses = [record for record in read_metrics(work) if "train/loss" in record]
    if not losses:
        return ""
    facts, last = read_facts(work), losses[-1]
    steps = f"step {last['step']:,}" + (f" of {facts.max_steps:,}" if facts is not None else "")
    verdict = worst(last_verdicts(work))
    # A rule needs three records.
    health = "healthy" if len(losses) > 2 else "not judged yet"
    if verdict is not None and not verdict.is_healthy:
        since = "" if verdict.since is None else f" since step {verdict.since:,}"
        health = f"{verdict.verdict}: {verdict.what.replace('_', ' ')}{since}"
    return f"{steps}, loss {last['train/loss']:.3f}, {health}"
