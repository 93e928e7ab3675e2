"""A model sharded by FSDP2 trains like a whole one. Accelerate shards on GPUs only, so here torch does it."""

from __future__ import annotations

import json
import os
from typing import Any

from safetensors.torch import load_file
from training.test_processes import assert_same_curves
from training.tiny import LLAMA, arm, in_processes, make_inputs, metrics, run_train, train_in_child

from pipeline.errors import DescentError


def shard(accelerator: Any, model: Any, optimizer: Any) -> Any:
    """What Accelerate's `prepare` makes of model and optimizer under FSDP2."""
    from accelerate.optimizer import AcceleratedOptimizer
    from torch.distributed.fsdp import fully_shard

    from pipeline.modeling.parameters import blocks

    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for block in blocks(model).values():
        fully_shard(block)
    fully_shard(model)
    sharded = dict(model.named_parameters())
    for group in optimizer.param_groups:
        group["params"] = [sharded[names[id(parameter)]] for parameter in group["params"]]
    return model, AcceleratedOptimizer(optimizer)


def train_sharded(index: int, inputs: Any, folder: Any, name: str, is_stopped: bool) -> None:
    from pipeline.training import loop

    loop.join = shard
    if is_stopped:
        arm("forward", 5, "SIGTERM")
    try:
        run_train(inputs, folder, name if index == 0 else f"unused-{name}", index, 2, optim="adamw_torch")
    except DescentError as error:
        os._exit(error.exit_code)


def test_sharded_training_follows_a_whole_one_and_resumes_from_its_checkpoint(tmp_path):
    inputs = make_inputs(tmp_path / "inputs", "llama", LLAMA)
    assert train_in_child(inputs, tmp_path / "whole") == 0
    sharded = tmp_path / "sharded"
    assert in_processes(2, train_sharded, inputs, sharded, "output0", True) == [75, 75]
    assert in_processes(2, train_sharded, inputs, sharded, "output1", False) == [0, 0]
    assert_same_curves(metrics(sharded / "output1"), metrics(tmp_path / "whole" / "output0"))
    assert json.loads((sharded / "work" / "step-00000012" / "state.json").read_text())["counters"][
        "resumed_from_steps"
    ] == [5]
    whole, found = (
        load_file(folder / "model" / "model.safetensors")
        for folder in (tmp_path / "whole" / "output0", sharded / "output1")
    )
    assert all(found[name].allclose(weights, atol=1e-4) for name, weights in whole.items())
