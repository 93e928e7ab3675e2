"""A model that is shared out among processes (FSDP2) trains like a whole one, here on the CPU over gloo."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from live_bytes import LiveBytes
from modeling.checkpoints import SHAPE
from safetensors.torch import load_file
from training.test_processes import assert_same_curves
from training.tiny import LLAMA, arm, in_processes, make_inputs, metrics, run_train, train_in_child

from pipeline.errors import ConfigError, DescentError

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {**LLAMA, "tie_word_embeddings": True}),
    # Three experts: fewer than can be dealt out to two processes evenly.
    "mixtral": ("mixtral", {**SHAPE, "num_local_experts": 3, "num_experts_per_tok": 2}),
    "grok1": (
        "grok1",
        {**SHAPE, "num_local_experts": 3, "num_experts_per_tok": 2, "num_key_value_heads": 1, "head_dim": 8},
    ),
}


def train_sharded(
    index: int, inputs: Any, folder: Any, name: str, is_stopped: bool, changes: dict[str, Any], count: int = 2
) -> None:
    # What accelerate launch sets from accelerate_configs/fsdp2.yaml.
    os.environ.update({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"})
    if is_stopped:
        arm("forward", 5, "SIGTERM")
    try:
        run_train(inputs, folder, name if index == 0 else f"unused-{name}-{index}", index, count, **changes)
    except DescentError as error:
        os._exit(error.exit_code)


def train_in_copies(index: int, inputs: Any, folder: Any, name: str, is_stopped: bool, changes: dict[str, Any]) -> None:
    """As `accelerate launch --use_parallelism_config` asks: two copies, each cut over two processes."""
    sizes = {"DP_REPLICATE": "2", "DP_SHARD": "2"}
    os.environ.update({f"PARALLELISM_CONFIG_{dimension}_SIZE": size for dimension, size in sizes.items()})
    os.environ["ACCELERATE_USE_PARALLELISM_CONFIG"] = "true"
    train_sharded(index, inputs, folder, name, is_stopped, {"per_device_train_batch_size": 1, **changes}, 4)


def train_by_muon(index: int, inputs: Any, folder: Any, count: int) -> None:
    os.environ.update({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"})
    changes = {"optim": "muon", "max_steps": 2, "warmup_steps": 1, "global_batch_size": count}
    try:
        run_train(inputs, folder, f"output{index}", index, count, per_device_train_batch_size=1, **changes)
    except ConfigError as error:
        os._exit(error.exit_code if "muon cannot move a matrix of 3 x 16" in str(error) else 1)


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "model" / "model.safetensors")


CUT = {"gradient_density": 0.5, "max_grad_value": 0.01}
RECOMPUTED = {**CUT, "gradient_checkpointing": True}
AVERAGED = {"ema_decay": 0.9, "export": "ema", "eval_ema": True}


@pytest.mark.parametrize(
    ("name", "recipe", "changes"), [("llama", False, RECOMPUTED), ("mixtral", True, {}), ("grok1", True, AVERAGED)]
)
def test_sharded_training_follows_a_whole_one_and_resumes_from_its_parts(tmp_path, name, recipe, changes):
    architecture, config = MODELS[name]
    whole_inputs = make_inputs(tmp_path / "inputs", architecture, config)
    inputs = make_inputs(tmp_path / "recipe", architecture, config, materialize_limit=0) if recipe else whole_inputs
    assert (inputs["model"] / "model" / "model.safetensors").is_file() != recipe
    assert train_in_child(whole_inputs, tmp_path / "whole", **changes) == 0
    sharded = tmp_path / "sharded"
    assert in_processes(2, train_sharded, inputs, sharded, "output0", True, changes) == [75, 75]
    parts = [load_file(path) for path in (sharded / "work" / "step-00000005").rglob("model.safetensors")]
    assert len(parts) == 2
    sizes = [sum(tensor.numel() for tensor in part.values()) for part in parts]
    assert max(sizes) < 1.05 * min(sizes)
    assert in_processes(2, train_sharded, inputs, sharded, "output1", False, changes) == [0, 0]
    assert_same_curves(metrics(sharded / "output1"), metrics(tmp_path / "whole" / "output0"))
    state = json.loads((sharded / "work" / "step-00000012" / "state.json").read_text())
    assert state["counters"]["resumed_from_steps"] == [5]
    found = weights(sharded / "output1")
    assert all(found[name].allclose(tensor, atol=1e-4) for name, tensor in weights(tmp_path / "whole/output0").items())


def test_a_checkpoint_serves_any_number_of_processes_whole_or_sharded(tmp_path):
    inputs, folder = make_inputs(tmp_path / "inputs", *MODELS["mixtral"]), tmp_path / "mixed"
    assert train_in_child(inputs, tmp_path / "whole") == 0
    assert train_in_child(inputs, folder, ("forward", 5, "SIGTERM")) == 75
    assert in_processes(2, train_sharded, inputs, folder, "output1", True, {}) == [75, 75]
    assert train_in_child(inputs, folder) == 0
    found, expected = weights(folder / "output2"), weights(tmp_path / "whole" / "output0")
    assert all(found[name].allclose(tensor, atol=1e-4) for name, tensor in expected.items())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "changes"), [("llama", CUT), ("mixtral", {})])
def test_two_copies_cut_over_two_processes_each_train_like_a_whole_one(tmp_path, name, changes):
    inputs = make_inputs(tmp_path / "inputs", *MODELS[name])
    recipe = make_inputs(tmp_path / "recipe", *MODELS[name], materialize_limit=0)
    assert train_in_child(inputs, tmp_path / "whole", **changes) == 0
    hybrid = tmp_path / "hybrid"
    assert in_processes(4, train_in_copies, recipe, hybrid, "output0", True, changes) == [75] * 4
    parts = [load_file(path) for path in (hybrid / "work" / "step-00000005").rglob("model.safetensors")]
    assert len(parts) == 2  # one copy is enough
    assert in_processes(4, train_in_copies, recipe, hybrid, "output1", False, changes) == [0] * 4
    curves, expected_curves = metrics(hybrid / "output1"), metrics(tmp_path / "whole" / "output0")
    assert_same_curves(curves, expected_curves)
    for line, expected_line in zip(curves, expected_curves, strict=True):  # layers' norms and shares that were cut
        expected_line.pop("train/grad_noise_scale", None)
        line.pop("unmeasured/noise_scale", None)  # where a step is one micro-batch
        assert line == pytest.approx(expected_line, rel=0.01, abs=1e-4)
    found, expected = weights(hybrid / "output1"), weights(tmp_path / "whole/output0")
    assert all(found[name].allclose(tensor, atol=1e-4) for name, tensor in expected.items())


@pytest.mark.slow
@pytest.mark.parametrize(("count", "code"), [(4, 0), (5, 78)])
def test_muon_moves_a_router_of_fewer_experts_than_processes_or_says_why_not(tmp_path, count, code):
    inputs = make_inputs(tmp_path / "inputs", *MODELS["mixtral"])
    assert in_processes(count, train_by_muon, inputs, tmp_path / "sharded", count) == [code] * count


@pytest.mark.slow
def test_a_sharded_training_starts_from_the_weights_of_another_run(tmp_path):
    inputs = make_inputs(tmp_path / "inputs", *MODELS["mixtral"])
    recipe = make_inputs(tmp_path / "recipe", *MODELS["mixtral"], materialize_limit=0)
    assert train_in_child(inputs, tmp_path / "first") == 0
    start = {"init_from": str(tmp_path / "first" / "output0" / "model"), "max_steps": 3}
    assert train_in_child(inputs, tmp_path / "whole", **start) == 0
    assert in_processes(2, train_sharded, recipe, tmp_path / "sharded", "output0", False, start) == [0, 0]
    assert_same_curves(metrics(tmp_path / "sharded" / "output0"), metrics(tmp_path / "whole" / "output0"))


def test_a_recipe_trains_in_one_process(tmp_path):
    inputs = make_inputs(tmp_path / "inputs", *MODELS["llama"])
    recipe = make_inputs(tmp_path / "recipe", *MODELS["llama"], materialize_limit=0)
    assert train_in_child(inputs, tmp_path / "whole") == 0
    assert train_in_child(recipe, tmp_path / "made") == 0
    assert (tmp_path / "whole/output0/model/model.safetensors").read_bytes() == (
        tmp_path / "made/output0/model/model.safetensors"
    ).read_bytes()


DEEP = {**LLAMA, "num_hidden_layers": 16, "tie_word_embeddings": False}


def train_and_measure(index: int, inputs: Any, folder: Any, changes: dict[str, Any], count: int) -> None:
    """Train; write the most bytes of tensors that this process held while it got its weights, and in the export."""
    from pipeline.modeling import open_and_export
    from pipeline.training import build_state, export

    if count > 1:
        os.environ.update({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"})
    meter, peaks = LiveBytes(), {}

    def measure(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def measured(*given: Any, **named: Any) -> Any:
            with meter:
                result = function(*given, **named)
            peaks[name] = meter.peak
            return result

        setattr(owner, name, measured)

    measure(build_state, "prepare")
    if count > 1:
        measure(export, "export_sharded")
    else:
        measure(open_and_export, "export_model")
    run_train(inputs, folder, f"output{index}", index, count, max_steps=2, warmup_steps=1, **changes)
    (folder / f"peaks{index}.json").write_text(json.dumps(peaks))


@pytest.mark.parametrize(("count", "changes"), [(2, {}), (2, {"ema_decay": 0.9, "export": "ema"}), (1, {})])
def test_no_process_ever_holds_all_of_a_sharded_model(tmp_path, count, changes):
    inputs = make_inputs(tmp_path / "inputs", "llama", DEEP)
    size = sum(tensor.nbytes for tensor in load_file(inputs["model"] / "model" / "model.safetensors").values())
    assert in_processes(count, train_and_measure, inputs, tmp_path / "run", changes, count) == [0] * count
    for index in range(count):
        peaks = json.loads((tmp_path / "run" / f"peaks{index}.json").read_text())
        assert len(peaks) == 2
        # A half, and of sixteen blocks the one at work, the next one, and buffers through which they come.
        assert max(peaks.values()) < 0.8 * size if count > 1 else max(peaks.values()) > size
    assert weights(tmp_path / "run" / "output0").keys() == load_file(inputs["model"] / "model/model.safetensors").keys()
