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


TRAINING = """if True:
    import sys, time
    from pathlib import Path
    from pipeline.main import main
    from pipeline.training import due, loop

    seconds, measures, *arguments = sys.argv[1:]
    if "telemetry" not in measures:
        due.Due.telemetry = lambda self, step: False
    if "anatomies" not in measures:
        loop.record_anatomy = lambda state: None
    train = loop.train

    def timed(state):
        started = time.process_time()
        try:
            return train(state)
        finally:
            Path(seconds).write_text(str(time.process_time() - started))

    loop.train = timed
    main(arguments)
"""
"""Runs a command with what it is to measure, and writes the processor's seconds of its training into a file."""

DEMO_STEPS, STEPS = 650, 61
SHORT = (f"train.max_steps={STEPS}", "train.warmup_steps=10", "train.logging_steps=2", "train.eval_batches=1")
"""Of the demo's training, with a record every 20 steps, and of one with a record every 2. Both end a step or more after
their last regular record, and so measure equally often, with and without histograms; a test counts."""

ANATOMIES = 4 / 3
"""Of the demo (before the first step, after 10, 100 and 650 steps), for each of the short training's."""


def training_seconds(workspace: Path, measures: str) -> float:
    """Processor seconds, in which other programs count little, of STEPS of the demo. In one thread: one that waits for
    others counts as busy."""
    settings = [f"run.workspace={workspace}", *SHORT, "--only", "train", "--force", "train"]
    told = workspace / "seconds"
    command = [sys.executable, "-c", TRAINING, str(told), measures, "run", CONFIG, *settings]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=one_thread)
    return float(told.read_text())


def show_telemetry(workspace: Path, rounds: int = 5) -> None:
    """What telemetry and anatomies cost the demo's training at their default: trainings without and with them, one
    after the other, in turns."""
    kinds = ("nothing", "telemetry", "anatomies")
    costs: dict[str, list[float]] = {kind: [] for kind in kinds[1:]}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "workspace"
        for stage in ("ingest", "normalize", "curate", "augment", "tokenizer", "encode", "pack", "model"):
            shutil.copytree(workspace / "artifacts" / stage, copy / "artifacts" / stage)
        for turn in range(rounds):
            found = {kind: training_seconds(copy, kind) for kind in kinds[:: -1 if turn % 2 else 1]}
            whole = found["nothing"] * DEMO_STEPS / STEPS
            for kind, factor in (("telemetry", 1.0), ("anatomies", ANATOMIES)):
                costs[kind].append(100 * factor * (found[kind] - found["nothing"]) / whole)
            print({kind: f"{seconds:.1f} s" for kind, seconds in found.items()}, flush=True)
    for kind, shares in costs.items():
        told = ", ".join(f"{share:+.2f}" for share in shares)
        print(f"{kind}, median of {told}: {statistics.median(shares):+.2f} % of the processor's time")


if __name__ == "__main__":
    show_demo(Path("workspace"))
    show_warm()
    show_telemetry(Path("workspace"))
