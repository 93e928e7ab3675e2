"""The autopsy of a step that was not finite: run again under a magnifying glass, kept in a folder, and replayed.

It needs what the step started from, weights, batch and random states, and costs nothing while all is well.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from pipeline.atomic import replacing_folder, write_json
from pipeline.distributed.collectives import Collectives
from pipeline.errors import BadDataError, ConfigError, DescentError, MissingInputError, storage_errors
from pipeline.modeling.inputs import model_inputs, trusted_inputs
from pipeline.modeling.sharding import is_sharded
from pipeline.modeling.weights import model_tensors, safetensors_errors
from pipeline.tasks import Task, task_named
from pipeline.training.batches import GlobalBatches
from pipeline.training.checkpointing.random_states import GeneratorStates, generator_states, restore_generator_states
from pipeline.training.guarding.nonfinite_trace import Examination, Finding, Row, examine
from pipeline.training.optimization.sparsity import freeze
from pipeline.training.routing import Routing
from pipeline.training.train_config import TrainConfig

FOLDER = "autopsy"
DESCRIPTION, CONFIG, WEIGHTS, BATCH = "autopsy.json", "config.json", "model.safetensors", "batch.safetensors"
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class _Culprit:
    finding: Finding
    micro_batch: int
    random: GeneratorStates


class Autopsy:
    """Autopsies of steps of a training, saved below `work`."""

    def __init__(
        self,
        config: TrainConfig,
        task: Task,
        model: PreTrainedModel,
        batches: GlobalBatches,
        processes: Collectives,
        work: Path,
    ) -> None:
        self.work = work
        self._config = config
        self._task = task
        self._model = model
        self._batches = batches
        self._processes = processes

    def perform(self, step: int, random: GeneratorStates) -> str:
        """Run step number `step`, counted from 1, again from the random states with which it began, on the weights as
        they are; returns in words what was found and how to replay it.

        All processes call it; the first on which a value was not finite saves the autopsy. Changes no state.
        """
        now = generator_states()
        restore_generator_states(random)
        culprit = self._find(step)
        restore_generator_states(now)
        findings = self._processes.all_gather(None if culprit is None else culprit.finding)
        index = next((index for index, finding in enumerate(findings) if finding is not None), None)
        if index is None and is_sharded(self._model):
            return "run again, its forward pass is finite: the backward pass of a model in parts is not looked into"
        if index is None:
            return "run again, the same step is finite: suspect the hardware, or a nondeterministic operation"
        place = f"first in {findings[index]}" + (f" in process {index}" if self._processes.world_size > 1 else "")
        saved: Path | str | None = None
        if culprit is not None and index == self._processes.rank:
            saved = self._save(step, culprit)
        # The other processes wait here, so that a launcher does not end this one for their sake while it writes.
        saved = self._processes.all_gather(saved)[index]
        if saved is None:
            return place
        return f"{place}; descent replay {saved} shows it" if isinstance(saved, Path) else f"{place} ({saved})"

    def _find(self, step: int) -> _Culprit | None:
        in_parts = is_sharded(self._model)
        batch = self._batches[step - 1]
        culprit = None
        for index, micro_batch in enumerate(batch.micro_batches):
            random = generator_states()
            divisor = batch.target_tokens / self._processes.dims.dp_world_size
            # The backward pass of a sharded model belongs to its wrapper.
            found = _examine(self._config, self._task, self._model, micro_batch, divisor=divisor, backward=not in_parts)
            if culprit is None and found.finding is not None:
                culprit = _Culprit(found.finding, index, random)
                if not in_parts:  # whose passes all processes must make together
                    break
        return culprit

    def _save(self, step: int, culprit: _Culprit) -> Path | str | None:
        if is_sharded(self._model):
            return None
        folder = self.work / FOLDER / f"step-{step:08d}"
        batch = self._batches[step - 1]
        micro_batch = batch.micro_batches[culprit.micro_batch]
        model_class = type(self._model)
        description = {
            "step": step,
            "process": self._processes.rank,
            "num_processes": self._processes.dims.dp_world_size,
            "micro_batch": culprit.micro_batch,
            "windows": self._batches.windows(step - 1)[culprit.micro_batch],
            "target_tokens": batch.target_tokens,
            "phase": culprit.finding.phase,
            "name": culprit.finding.name,
            "finding": str(culprit.finding),
            "device": str(micro_batch["input_ids"].device.type),
            "model_class": [model_class.__module__, model_class.__qualname__],
            "attention": self._model.config._attn_implementation,
            "train": self._config.model_dump(mode="json"),
            "task": self._task.type,
        }
        tensors = {f"batch/{name}": tensor.cpu().contiguous() for name, tensor in micro_batch.items()}
        tensors |= {f"random/{name}": state for name, state in culprit.random.items()}
        values = {name: tensor.cpu().contiguous() for name, tensor in model_tensors(self._model).items()}
        try:
            with storage_errors(folder), replacing_folder(folder, lambda: _set_aside(folder)) as temporary:
                with safetensors_errors(temporary):
                    save_file(values, temporary / WEIGHTS)
                    save_file(tensors, temporary / BATCH)
                self._model.config.to_json_file(temporary / CONFIG, use_diff=False)
                write_json(temporary / DESCRIPTION, description)
        except DescentError as error:
            return f"the autopsy could not be saved: {error}"
        return folder


@dataclass(frozen=True)
class Replay:
    """What a replay saw, beside what the autopsy had found."""

    step: int
    saved_finding: str
    saved_name: str
    saved_device: str
    device: str
    rows: list[Row]
    finding: Finding | None

    @property
    def is_reproduced(self) -> bool:
        """Whether the same module or parameter came first again."""
        return self.finding is not None and self.finding.name == self.saved_name


def replay(folder: Path, device_name: str) -> Replay:
    """Run the micro-batch of an autopsy again, from its weights and random states, on `cpu`, `cuda` or `cuda:N`.

    Raises MissingInputError where `folder` holds no autopsy, BadDataError for a damaged one, and ConfigError where
    there is no such device.
    """
    device = torch.device(device_name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {device_name}: there is no such device here; replay on the cpu")
    if not (folder / DESCRIPTION).is_file():
        raise MissingInputError(f"{folder}: no autopsy is there ({DESCRIPTION} is missing); give its folder")
    try:
        saved = json.loads((folder / DESCRIPTION).read_bytes())
        config, task = TrainConfig(**saved["train"]), task_named(saved["task"])
        # Flash and flex attention are the GPU's.
        attention = saved["attention"] if device.type != "cpu" or saved["attention"] == "sdpa" else "eager"
        model = _load(folder, saved, attention).to(device)
        tensors = load_file(folder / BATCH)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise BadDataError(f"{folder}: the autopsy cannot be read: {reason}; was it copied whole?") from error
    micro_batch = {
        name.removeprefix("batch/"): t.to(device) for name, t in tensors.items() if name.startswith("batch/")
    }
    restore_generator_states({name[7:]: state for name, state in tensors.items() if name.startswith("random/")})
    dtype = AUTOCAST.get(config.mixed_precision)
    with trusted_inputs(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        found = _examine(config, task, model, micro_batch, divisor=saved["target_tokens"] / saved["num_processes"])
    known = (saved["step"], saved["finding"], saved["name"], saved["device"])
    return Replay(*known, device.type, found.rows, found.finding)


def format_replay(found: Replay) -> str:
    """The replay as a table of tensors in the order of computation, and a verdict."""
    width = max((len(row.name) for row in found.rows), default=0)
    lines = [f"{'module':<{width}}  {'tensor':<18} {'shape':<16} {'min':>11} {'max':>11} {'mean':>11}  not finite"]
    for row in found.rows:
        numbers = " ".join(f"{'-' if value is None else f'{value:.3g}':>11}" for value in (row.low, row.high, row.mean))
        shape = "x".join(map(str, row.shape)) or "scalar"
        share = f"{row.nonfinite_share:.2%}" if row.nonfinite_share else ""
        lines.append(f"{row.name:<{width}}  {row.what:<18} {shape:<16} {numbers}  {share}".rstrip())
    if found.is_reproduced:
        verdict = f"reproduced: the first value that is not finite is in {found.finding}"
    elif found.finding is not None:
        verdict = f"a value that is not finite, first in {found.finding}; in training it was in {found.saved_finding}"
    else:
        verdict = f"not reproduced on {found.device}: all values are finite; in training the first was in "
        verdict += f"{found.saved_finding}, on {found.saved_device}"
    return "\n".join([*lines, "", f"step {found.step}: {verdict}"])


def _examine(
    config: TrainConfig,
    task: Task,
    model: PreTrainedModel,
    micro_batch: dict[str, torch.Tensor],
    *,
    divisor: float,
    backward: bool = True,
) -> Examination:
    routing = Routing(config, task, model)

    def loss() -> torch.Tensor:
        output = model(**model_inputs(micro_batch), **routing.inputs)
        return routing.add(task.loss_sums(output, micro_batch, config), output, micro_batch).total

    return examine(model, loss, backward=backward, divisor=divisor)


def _load(folder: Path, saved: dict[str, Any], attention: str) -> PreTrainedModel:
    """The model of an autopsy, as it was in training, with an implementation of attention."""
    module, name = saved["model_class"]
    if module.partition(".")[0] not in ("transformers", "pipeline"):
        raise MissingInputError(f"{folder}: its model is of {module}, which is not part of transformers or of descent")
    model_class: Any = getattr(importlib.import_module(module), name)
    config = model_class.config_class.from_json_file(folder / CONFIG)
    model: PreTrainedModel = model_class._from_config(config, attn_implementation=attention)
    model.load_state_dict(load_file(folder / WEIGHTS), strict=False, assign=True)
    model.tie_weights()
    freeze(model, TrainConfig(**saved["train"]).freeze)
    model.train()
    return model


def _set_aside(folder: Path) -> None:
    """An autopsy of the same step, from before a resume, gives way to the new one."""
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
