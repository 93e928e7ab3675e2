"""The simulated peak of a training against that of a process that carries it out.

Method: the train stage runs in a process of its own, in which large blocks of memory go back to the system at once
(MALLOC_MMAP_THRESHOLD_). A tiny training goes first, so that libraries are loaded and their own memory is taken. The
highest resident size of the second training, less the resident size before it, is compared with the estimate. The
models are such that activations make the peak: on the CPU, whose memory is the host's, the snapshot of weights and
optimizer from which a checkpoint is written could be higher otherwise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import gc, json, sys
from pathlib import Path
from training.tiny import make_inputs, run_train, BLOCK_SIZE, VOCAB_SIZE, LLAMA, GPT2
from training import tiny
from pipeline.config.model import ModelConfig
from pipeline.config.train import TrainConfig
from pipeline.modeling.heads import CAUSAL_LM
from pipeline.modeling.build import build_config, load_tokenizer
from pipeline.planning.memory import StepShape, simulate_step, without_data
from pipeline.planning.skeleton import build_skeleton
import torch

folder, architecture, small, large, settings = Path(sys.argv[1]), sys.argv[2], *map(json.loads, sys.argv[3:6])
tiny.BLOCK_SIZE = 256

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

run_train(make_inputs(folder / "small", architecture, small), folder / "warm", **settings)
inputs = make_inputs(folder / "large", architecture, large)
gc.collect()
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
run_train(inputs, folder / "run", **settings)
measured = status("VmHWM") - before

section = TrainConfig(**{**tiny.SECTION, **settings})
model = ModelConfig(architecture=architecture, config=large)
config = build_config(model, load_tokenizer(folder / "large/tokenizer"))
batch = section.device_batch_size(1)
shape = StepShape(batch, tiny.BLOCK_SIZE, section.global_batch_size // batch)
with without_data():
    simulated = simulate_step(build_skeleton(config, CAUSAL_LM, torch.float32), section, shape).peak
print(json.dumps([measured, sum(simulated.values())]))
"""
WIDE = {
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": 256,
}
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama in float32": ("llama", WIDE, {"per_device_train_batch_size": 16, "global_batch_size": 16}),
    "gpt2 in bfloat16, accumulating": (
        "gpt2",
        {"n_embd": 384, "n_layer": 8, "n_head": 6, "n_positions": 256},
        {"per_device_train_batch_size": 8, "global_batch_size": 16, "mixed_precision": "bf16"},
    ),
    "mixtral in float32": (
        "mixtral",
        {**WIDE, "num_hidden_layers": 4, "num_local_experts": 4, "num_experts_per_tok": 2},
        {"per_device_train_batch_size": 16, "global_batch_size": 16},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_estimated_peak_is_within_a_tenth_of_the_measured_one(name: str, tmp_path: Path) -> None:
    architecture, large, settings = MODELS[name]
    small = {key: 1 if key in ("num_hidden_layers", "n_layer") else value for key, value in large.items()}
    steps = {"max_steps": 3, "warmup_steps": 0, "logging_steps": 1, "eval_steps": None, "save_steps": 100}
    arguments = [json.dumps(value) for value in (small, large, {**steps, **settings})]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), architecture, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**environment, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])},
    )
    assert done.returncode == 0, done.stderr
    measured, simulated = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}: measured {measured / 2**20:.1f} MiB, estimated {simulated / 2**20:.1f} MiB")
    assert simulated == pytest.approx(measured, rel=0.1)
