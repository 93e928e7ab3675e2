#!/usr/bin/env python3
"""How far finished trainings stayed from the thresholds of the health panel.

    scripts/calibrate_health.py RUN... [--record FILE]

RUN is a run's folder, such as workspace/runs/demo, or an artifact of train. Its records are judged anew by the rules of
now; those of which a margin is too small end the script with 1. `--record` writes the shares of all runs to FILE.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pipeline.telemetry.facts import HealthFacts
from pipeline.telemetry.margins import MARGINS, Shares, margin, worst_shares
from pipeline.telemetry.rules import RULES
from pipeline.training.recording.metrics_file import read_records


def train_artifact(run: Path) -> Path:
    """The artifact of train of a run's folder, or the folder itself."""
    state = run / "run.json"
    if not state.is_file():
        return run
    key = json.loads(state.read_bytes())["stages"]["train"]["key"]
    return run.parents[1] / "artifacts" / "train" / str(key)


def shares_of(run: Path) -> Shares:
    """The worst shares of a finished training."""
    artifact = train_artifact(run)
    summary: dict[str, Any] = json.loads((artifact / "manifest.json").read_bytes())["summary"]
    return worst_shares(HealthFacts.from_json(summary["facts"]), read_records(artifact / "metrics.jsonl"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--record", type=Path, metavar="FILE")
    given = parser.parse_args()
    found = {run.name: shares_of(run) for run in given.runs}
    if given.record is not None:
        rounded = {
            run: {what: {name: float(f"{share:.3g}") for name, share in one.items()} for what, one in shares.items()}
            for run, shares in found.items()
        }
        given.record.write_text(json.dumps(rounded, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    is_enough = True
    for rule in RULES:
        for severity in ("note", *MARGINS):
            measured = [
                (one[rule.what][severity], run) for run, one in found.items() if severity in one.get(rule.what, {})
            ]
            if measured:
                share, run = max(measured)
                is_small = margin(share) < MARGINS.get(severity, 0.0)
                is_enough &= not is_small
                said = f"worst {share:8.3g} of the limit in {run}, margin {margin(share):.3g}"
                print(f"{rule.what:28} {severity:8} {said}{'  TOO SMALL' if is_small else ''}")
        if not any(rule.what in one for one in found.values()):
            print(f"{rule.what:28} not measured")
    return 0 if is_enough else 1


if __name__ == "__main__":
    sys.exit(main())
