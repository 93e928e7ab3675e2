"""Benchmarks inside the training loop."""

from __future__ import annotations

from pipeline.evaluation.benchmarks import Exported
from pipeline.evaluation.trained_model import TrainedModel
from pipeline.modeling.adapters import virtual_tokens
from pipeline.modeling.export_compatibility import longest_input
from pipeline.modeling.inputs import context_length
from pipeline.modeling.sharding import reshard
from pipeline.training.train_state import TrainState


def benchmark(state: TrainState) -> dict[str, float]:
    """Every score of `train.benchmarks` by the weights of now, as `benchmark/<task>/<metric>`; where they are known its
    standard error, with `_error` behind it, and what guessing scores, with `_chance`.

    All processes call it; what is asked of the model is what evaluation will ask of its export. Changes neither the
    model nor any random state.
    """
    assert state.tokenizer_file is not None
    folder, model = state.tokenizer_file.parent, state.unwrapped_model
    added, positions = virtual_tokens(model), context_length(model)
    limits = [longest_input(folder) or state.train_split.block_size, positions and positions - added]
    config, world_size = state.config, state.processes.dims.dp_world_size
    batch_size = config.per_device_eval_batch_size or config.micro_batch_size(world_size)
    trained = TrainedModel(model, state.device, state.processes)
    exported = Exported(trained, folder, min(limit for limit in limits if limit), batch_size)
    values: dict[str, float] = {}
    with state.watchdog.resting():
        for one in config.benchmarks:
            for score in one.scores(exported, state.progress).scores:
                tag = f"benchmark/{score.task}/{score.metric}"
                found = {tag: score.value, f"{tag}_error": score.standard_error, f"{tag}_chance": score.chance}
                values |= {name: value for name, value in found.items() if value is not None}
    reshard(state.model)
    return values
