"""Gradients of a small Llama are those of TensorFlow's GradientTape.

TensorFlow has an environment of its own, which the test makes from the package index: where it lies beside TensorBoard,
every process that writes events imports it, and it has no wheels for the newest Python that we promise.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from harness import PATIENCE_SECONDS
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.modeling.module_hooks import record_modules

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
PINS = HERE / "tensorflow_pins.txt"


@pytest.fixture
def python_with_tensorflow(tmp_path: Path) -> Iterator[Path]:
    """Skips only where the index answers and has no wheel for this Python."""
    folder = tmp_path / "tensorflow"
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)

    def install(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary", ":all:", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)

    [pin] = re.findall(r"^tensorflow-cpu==\S+", PINS.read_text(), re.MULTILINE)
    asked = install("--dry-run", "--no-deps", pin)
    if "No matching distribution found" in asked.stderr and "Retrying" not in asked.stderr:
        pytest.skip(f"the package index has no wheel of {pin} for Python {platform.python_version()}")
    installed = install("-r", str(PINS))
    assert installed.returncode == 0, installed.stderr
    yield python
    shutil.rmtree(folder)


def test_gradients_are_those_of_gradient_tape(python_with_tensorflow: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        rms_norm_eps=1e-6, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, initializer_range=0.2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    random = np.random.default_rng(0)
    ids, labels = (random.integers(0, config.vocab_size, (4, 9)) for _ in range(2))

    def loss() -> torch.Tensor:
        logits = model(input_ids=torch.from_numpy(ids), use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(labels).flatten())

    named = dict(model.named_parameters())
    found = record_modules(model, {}, loss, [*named.values()])
    given, other = tmp_path / "given.npz", tmp_path / "found.npz"
    np.savez(given, ids=ids, labels=labels, **{name: one.detach().numpy() for name, one in named.items()})
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    program = [python_with_tensorflow, HERE / "gradient_tape.py", given, other]
    subprocess.run(program, check=True, env=quiet, timeout=PATIENCE_SECONDS)
    of_tensorflow = np.load(other)
    assert found.loss.item() == pytest.approx(float(of_tensorflow["loss"]), rel=1e-6)
    differences = {}
    for name, own in zip(named, found.parameter_gradients, strict=True):
        assert own is not None
        size = np.linalg.norm(of_tensorflow[name])
        assert size > 1e-4, name
        differences[name] = np.linalg.norm(own.numpy() - of_tensorflow[name]) / size
    assert len(differences) == 30
    assert max(differences.values()) <= 1e-5, differences
