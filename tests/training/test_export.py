"""Which weights become the artifact."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file
from training.tiny import make_inputs, run_train

from pipeline.errors import StorageError
from pipeline.training import loop
from pipeline.training.checkpointing.checkpoints import list_checkpoints

LOSSES = {3: 4.0, 6: 3.0, 9: 3.5, 12: 3.2}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def scripted(monkeypatch):
    """Validation losses that are lowest at step 6."""
    remaining = list(LOSSES.values())
    monkeypatch.setattr(loop, "validate", lambda *arguments: {"eval/loss": remaining.pop(0), "eval/perplexity": 1.0})


def exported(folder):
    return load_file(folder / "output" / "model" / "model.safetensors"), json.loads(
        (folder / "output" / "training.json").read_text()
    )


@pytest.mark.parametrize(("export", "step"), [("last", 12), ("best", 6)])
def test_the_weights_asked_for_are_exported(inputs, tmp_path, scripted, export, step):
    run_train(inputs, tmp_path, eval_steps=3, save_steps=4, save_total_limit=1, export=export)
    kept = [int(path.name[-2:]) for path in list_checkpoints(tmp_path / "work")]
    assert kept == ([12] if export == "last" else [6, 12])
    weights, description = exported(tmp_path)
    assert description["exported_step"] == step
    of_the_step = load_file(tmp_path / "work" / f"step-{step:08d}" / "model.safetensors")
    assert all(weights[name].equal(tensor) for name, tensor in of_the_step.items())


def test_a_broken_best_checkpoint_is_never_exported(inputs, tmp_path, scripted, monkeypatch):
    original = loop.take_snapshot

    def spoil(state, records):
        best = tmp_path / "work" / "step-00000006" / "model.safetensors"
        if best.exists():
            data = bytearray(best.read_bytes())
            data[-1] ^= 1
            best.write_bytes(data)
        return original(state, records)

    monkeypatch.setattr(loop, "take_snapshot", spoil)
    with pytest.raises(StorageError, match=r"the checkpoint of the weights to export is broken \(model.safetensors"):
        run_train(inputs, tmp_path, eval_steps=3, save_steps=12, export="best")
