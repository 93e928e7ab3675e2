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

    seconds, is_on, *arguments = sys.argv[1:]
    if is_on == "False":
        due.Due.telemetry = lambda self, step: False
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
"""Runs a command with or without telemetry, and writes the processor's seconds of its training into a file."""


DEMO_STEPS, STEPS = 650, 60
"""Of the demo's training, with a record every 20 steps, and of one with a record every 2. Both measure ten times:
before the first step, at the first three records and at every fifth; and three times with histograms."""


def training_seconds(workspace: Path, *, is_on: bool) -> float:
    """Processor seconds, in which other programs count little, of STEPS of the demo. In one thread: one that waits for
    others counts as busy."""
    settings = [f"run.workspace={workspace}", f"train.max_steps={STEPS}", "train.warmup_steps=10"]
    settings += ["train.logging_steps=2", "train.eval_batches=1", "--only", "train", "--force", "train"]
    told = workspace / "seconds"
    command = [sys.executable, "-c", TRAINING, str(told), str(is_on), "run", CONFIG, *settings]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=one_thread)
    return float(told.read_text())


def show_telemetry(workspace: Path, pairs: int = 5) -> None:
    """What telemetry costs the demo's training at its default, in pairs of trainings without and with it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "workspace"
        for stage in ("ingest", "normalize", "curate", "augment", "tokenizer", "encode", "pack", "model"):
            shutil.copytree(workspace / "artifacts" / stage, copy / "artifacts" / stage)
        costs = []
        for pair in range(pairs):
            order = (False, True) if pair % 2 else (True, False)
            found = {is_on: training_seconds(copy, is_on=is_on) for is_on in order}
            costs.append(100 * (found[True] - found[False]) / (found[False] * DEMO_STEPS / STEPS))
            print(
                f"telemetry, pair {pair + 1}: {found[False]:.1f} -> {found[True]:.1f} s, {costs[-1]:+.2f} %", flush=True
            )
        print(f"telemetry, median            {statistics.median(costs):+8.2f} % of the processor's time")


if __name__ == "__main__":
    show_demo(Path("workspace"))
    show_warm()
    show_telemetry(Path("workspace"))
