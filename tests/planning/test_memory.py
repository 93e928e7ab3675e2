"""The estimated peak of a training against that of a process that carries it out.

Method: a process of its own, in which large blocks of memory go back to the system at once (MALLOC_MMAP_THRESHOLD_),
carries out a run of a small model first, so that libraries are loaded and their own memory is taken, and then the train
stage of a larger one. The highest resident size of that, less the resident size before it, is compared with what
`descent estimate` says of the same configuration. The models are such that activations make the peak: on the CPU,
whose memory is the host's, the snapshot of weights and optimizer from which a checkpoint is written could be higher.
For the same reason no anatomies are recorded: they are taken on a copy in the host's memory, in float64. Attention has
no dropout, with which torch keeps its scores on the CPU, though not on a GPU. Where the processor has no
bf16 all is computed in float32, as `mixed_precision: auto` has it: emulated, two steps take minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import PATIENCE_SECONDS

from pipeline.machine import bf16_support

PRECISION = "bf16" if bf16_support({**os.environ, "ACCELERATE_USE_CPU": "true"}).is_native else "no"

PROGRAM = """
import gc, json, sys
from pathlib import Path
from pipeline.engine import runner
from pipeline.config.loading import load_config
from pipeline.planning.devices import device_named
from pipeline.planning.estimate import Estimator, Hardware
from pipeline.engine.plan import Selection
from pipeline.stages import STAGES

from pipeline.training import loop

loop.record_anatomy_if_due = lambda state: None

path, small, large = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

runner.run(load_config(path, [*large, *small, "run.name=small"]), Selection(STAGES, last="train"))
config = load_config(path, large)
runner.run(config, Selection(STAGES, last="model"))
gc.collect()
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
runner.run(config, Selection(STAGES, only="train"))
measured = status("VmHWM") - before
estimated = Estimator(config, Hardware(device_named("H100"), 1, 0.4)).result()["memory"]["one_device"]["total_bytes"]
print(json.dumps([measured, estimated]))
"""
WIDE = "{hidden_size: 384, intermediate_size: 1536, num_hidden_layers: 6, num_attention_heads: 6}"
YAML = f"""\
run: {{name: large}}
ingest: {{sources: [{{name: docs, type: python_docs, max_documents: 500}}]}}
tokenizer: {{vocab_size: 2048}}
pack: {{block_size: 256}}
model: {{architecture: llama, config: {WIDE}}}
train: {{max_steps: 2, global_batch_size: 12, save_steps: 100, eval_batches: 1, mixed_precision: {PRECISION}}}
"""
REVIEWS = Path(__file__).parents[2] / "data" / "reviews.jsonl"
SHALLOW = ["model.config.num_hidden_layers=1"]
CASES: dict[str, tuple[list[str], list[str]]] = {
    "llama in float32": (SHALLOW, ["train.mixed_precision=no"]),
    "gpt2, accumulating": (
        ["model.config.n_layer=1"],
        [
            "model.architecture=gpt2",
            "model.config={n_embd: 384, n_layer: 8, n_head: 6, n_positions: 256, attn_pdrop: 0.0}",
            "train.per_device_train_batch_size=6",
        ],
    ),
    "mixtral in float32": (
        SHALLOW,
        [
            "model.architecture=mixtral",
            "model.config.num_hidden_layers=4",
            "model.config.num_key_value_heads=6",
            "model.config.num_local_experts=4",
            "model.config.intermediate_size=1024",
            "train.mixed_precision=no",
            "train.global_batch_size=16",
        ],
    ),
    "recomputing, averaging and accumulating": (
        SHALLOW,
        [
            "train.gradient_checkpointing=true",
            "train.ema_decay=0.99",
            "train.global_batch_size=32",
            "train.per_device_train_batch_size=16",
        ],
    ),
    "classification": (
        SHALLOW,
        [
            f"ingest.sources=[{{name: reviews, type: jsonl, paths: [{REVIEWS}], label_field: verdict}}]",
            "curate={filters: [{type: min_chars, value: 20}], validation_fraction: 0.1}",
            "model.task=classification",
            "pack.block_size=32",  # no review is shorter
            "train.global_batch_size=96",
        ],
    ),
    "large batches in validation": (
        SHALLOW,
        ["train.global_batch_size=2", "train.per_device_eval_batch_size=96", "curate.validation_fraction=0.4"],
    ),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose workspace the cases share, so that they make the data once."""
    folder = tmp_path_factory.mktemp("memory")
    (folder / "x.yaml").write_text(YAML)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_estimated_peak_is_within_a_tenth_of_the_measured_one(name: str, project: Path) -> None:
    check(name, project, *CASES[name])


@pytest.mark.slow
def test_estimated_peak_of_lora_is_within_a_tenth_of_the_measured_one(project: Path) -> None:
    # The pretrained model is in bfloat16, and stays so where it is computed in that.
    make = ["train.max_steps=1", "train.global_batch_size=1", "train.save_steps=1"]
    program = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from pipeline.engine import runner
from pipeline.config.loading import load_config
from pipeline.engine.plan import Selection
from pipeline.stages import STAGES
from pathlib import Path
view = runner.run(load_config(Path(sys.argv[1]), sys.argv[2:]), Selection(STAGES, last="train"))
AutoModelForCausalLM.from_pretrained("workspace/runs/large/model", dtype=torch.bfloat16).save_pretrained("base")
AutoTokenizer.from_pretrained("workspace/runs/large/model").save_pretrained("base")
"""
    run_program(program, project, [str(project / "x.yaml"), *make])
    pretrained = [
        "model={pretrained: base, adapter: {type: lora, r: 16, target_modules: all-linear}}",
        "tokenizer={type: pretrained, pretrained: base}",
    ]
    check("LoRA", project, ["train.global_batch_size=1"], pretrained)


def check(name: str, project: Path, small: list[str], large: list[str]) -> None:
    output = run_program(PROGRAM, project, [str(project / "x.yaml"), json.dumps(small), json.dumps(large)])
    measured, estimated = json.loads(output.splitlines()[-1])
    print(f"{name}: measured {measured / 2**20:.1f} MiB, estimated {estimated / 2**20:.1f} MiB")
    assert estimated == pytest.approx(measured, rel=0.1)


def run_program(program: str, folder: Path, arguments: list[str]) -> str:
    thresholds = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        env={**os.environ, **thresholds, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
