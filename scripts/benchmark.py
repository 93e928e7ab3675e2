"""The figures that README.md quotes, measured on this machine: `.venv/bin/python scripts/benchmark.py`.

Needs a finished `scripts/demo`. Run nothing else meanwhile.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = "configs/demo.yaml"
COMMAND = [sys.executable, "-m", "pipeline"]


def seconds(*arguments: str) -> float:
    """Wall time of one command, as a whole process."""
    started = time.perf_counter()
    subprocess.run([*COMMAND, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def show_demo(workspace: Path) -> None:
    """What the finished demo took and reached."""
    stages = json.loads((workspace / "runs/demo/run.json").read_text())["stages"]
    manifests = {
        stage: json.loads((workspace / "artifacts" / stage / entry["key"] / "manifest.json").read_text())
        for stage, entry in stages.items()
    }
    print(f"demo, all stages             {sum(m['seconds'] for m in manifests.values()):8.1f} s")
    for stage, manifest in manifests.items():
        print(f"  {stage:<26} {manifest['seconds']:8.1f} s")
    train, evaluation = manifests["train"]["summary"], manifests["evaluate"]["summary"]
    print(f"training                     {train['tokens_per_second']:8,.0f} target tokens/s")
    print(f"model, held-out documents    {evaluation['test']['bits_per_byte']:8.3f} bits/byte")
    for name, baseline in evaluation["baselines"].items():
        print(f"  {name:<26} {baseline['bits_per_byte']:8.3f} bits/byte")


def show_warm() -> None:
    """Start-up costs when nothing is to be done."""
    for verb in ("plan", "run"):
        times = [seconds(verb, CONFIG) for _ in range(6)][1:]
        print(f"warm `descent {verb}`, median of 5 {statistics.median(times):7.2f} s")


def show_telemetry(workspace: Path, pairs: int = 5, logging_steps: int = 2, steps: int = 60) -> None:
    """What measuring every matrix costs: paired trainings with it at the default interval of five records, and at the
    first three records alone. The demo's records are ten times as far apart as these."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "workspace"
        for stage in ("ingest", "normalize", "curate", "augment", "tokenizer", "encode", "pack", "model"):
            shutil.copytree(workspace / "artifacts" / stage, copy / "artifacts" / stage)
        common = [
            CONFIG,
            f"run.workspace={copy}",
            f"train.max_steps={steps}",
            "train.warmup_steps=10",
            "--only",
            "train",
        ]
        ratios = []
        for pair in range(pairs):
            speeds = []
            for interval in ("null", steps + logging_steps):
                intervals = [f"train.logging_steps={logging_steps}", f"train.telemetry_steps={interval}"]
                settings = [*intervals, "--force", "train"]
                seconds("run", *common, *settings)
                newest = max((copy / "artifacts/train").glob("*/manifest.json"), key=os.path.getmtime)
                speeds.append(json.loads(newest.read_text())["summary"]["tokens_per_second"])
            ratios.append(speeds[1] / speeds[0])
            print(f"telemetry, pair {pair + 1}: {100 * (ratios[-1] - 1):+.1f} % time", flush=True)
        print(f"telemetry, median            {100 * (statistics.median(ratios) - 1):+8.1f} % time")


if __name__ == "__main__":
    show_demo(Path("workspace"))
    show_warm()
    show_telemetry(Path("workspace"))
